"""Coverage-guided fuzzing of one target with atheris; without a name, ten seconds of each:

    python tests/fuzz/run.py [TARGET [libFuzzer's options, for example -max_total_time=60 or a corpus folder]]

atheris is not in the project's extras, as it does not exist for every platform: pip install atheris
"""

import subprocess
import sys
from pathlib import Path

SECONDS = 10
sys.path.insert(0, str(Path(__file__).parents[2]))  # the working tree, where the project is not installed


def main(words: list[str]) -> int:
    try:
        import atheris
    except ModuleNotFoundError:
        print("atheris is not installed; run: pip install atheris")
        return 2
    with atheris.instrument_imports(include=["edge"], enable_loader_override=False):
        import targets
    if not words:
        one = [sys.executable, __file__]
        return max(
            subprocess.run([*one, name, f"-max_total_time={SECONDS}"]).returncode for name in targets.TARGETS
        )
    if words[0] not in targets.TARGETS:
        print(f"no target {words[0]!r}; known are {', '.join(targets.TARGETS)}")
        return 2
    atheris.Setup([sys.argv[0], *words[1:]], targets.TARGETS[words[0]])
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
