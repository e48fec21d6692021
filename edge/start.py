"""The program's first lines: they import nothing heavy, so that Ctrl-C ends even the first moment quietly."""

import signal


def main() -> None:
    """Entry point. Loading the libraries takes a moment; nothing is open yet that would have to be closed."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # else somebody has asked to ignore it, as nohup's shell does
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from edge.cli import main as commands

    signal.signal(signal.SIGINT, before)
    commands()
