"""A teacher's weights arrive whole, or the person is told what to do."""

import hashlib
import re
import socket
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch
from torch import Tensor

from distillation.download import Pinned, fetch
from distillation.resnet import ResNet18
from distillation.weights import PUBLISHED, TEACHERS, load_teacher
from edge.errors import InspectError
from edge.paths import cache_folder

RESNETS = [name for name in TEACHERS if "resnet" in name]


# --- weights the user brings


def whole_state(name: str = "resnet18") -> dict[str, Tensor]:
    """Random weights under the names of the whole published network."""
    state = {k: v.clone() for k, v in TEACHERS[name]().state_dict().items()}
    return {
        **state,
        "layer4.0.conv1.weight": torch.zeros(512, 256, 3, 3),
        "fc.weight": torch.zeros(1000, 512),
    }


def saved(content: object, folder: Path, name: str = "brought.pth") -> Path:
    torch.save(content, folder / name)
    return folder / name


@pytest.mark.parametrize("name", RESNETS[:2])
def test_a_published_state_dict_loads_and_what_is_cut_off_is_not_used(name: str, tmp_path: Path) -> None:
    state = whole_state(name)
    teacher = load_teacher(name, saved(state, tmp_path))
    for key, value in teacher.state_dict().items():
        assert torch.equal(value, state[key])
    assert not any(p.requires_grad for p in teacher.parameters())


def test_old_state_dicts_that_do_not_count_batches_load_as_well(tmp_path: Path) -> None:
    state = {k: v for k, v in whole_state().items() if "num_batches_tracked" not in k}
    load_teacher("resnet18", saved(state, tmp_path))


def without(key: str) -> dict[str, Tensor]:
    return {k: v for k, v in whole_state().items() if k != key}


def reshaped(key: str) -> dict[str, Tensor]:
    return {**whole_state(), key: torch.zeros(64, 3, 3, 3)}


UNFIT = {
    "a key less": (
        "resnet18",
        lambda: without("layer2.0.conv1.weight"),
        r"Missing.*layer2\.0\.conv1\.weight",
    ),
    "another shape": ("resnet18", lambda: reshaped("conv1.weight"), r"mismatch for conv1\.weight"),
    # Every tensor of ResNet-18 is in there too, with the same shape: it would load and compute nonsense.
    "a deeper network": (
        "resnet18",
        lambda: whole_state("resnet34"),
        r"Unexpected.*layer1\.2\.conv1\.weight",
    ),
    "another kind": ("efficientnet-lite0", whole_state, "there is no '_conv_stem.weight'"),
    "a wrapped state dict": ("resnet18", lambda: {"state_dict": whole_state()}, r"Missing.*conv1\.weight"),
    "a list": ("resnet18", lambda: [torch.zeros(1)], "not a state dict but a list"),
    "numbered tensors": ("resnet18", lambda: {0: torch.zeros(1)}, "not a state dict but a dict of something"),
    "a whole pickled network": ("resnet18", ResNet18, "not a PyTorch file of tensors"),
}


@pytest.mark.parametrize("case", list(UNFIT))
def test_a_file_that_does_not_fit_is_named_with_what_is_wrong(case: str, tmp_path: Path) -> None:
    name, content, complaint = UNFIT[case]
    path = saved(content(), tmp_path)
    with pytest.raises(InspectError, match=complaint) as caught:
        load_teacher(name, path)
    assert str(path) in str(caught.value) and "--teacher-weights" in caught.value.next_step
    assert len(str(caught.value)) < 500 and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", list(TEACHERS))
@pytest.mark.parametrize("content", [b"", b"not a network"])
def test_a_file_of_something_else_is_refused(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(InspectError, match="not a PyTorch file of tensors"):
        load_teacher(name, path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InspectError, match=r"no such file .*absent\.pth"):
        load_teacher("resnet18", tmp_path / "absent.pth")


# --- the pinned download, from a real server


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder; `short-*` promises twice as many bytes as it sends."""

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""

    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        if not self.path.startswith("/short-"):
            return super().do_GET()
        body = (Path(self.directory) / self.path[1:]).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(2 * len(body)))
        self.end_headers()
        self.wfile.write(body)
        return None


class Publisher:
    """A web server over a folder that remembers what it was asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.asked: list[str] = []
        self.server.asked = self.asked  # type: ignore[attr-defined]
        self.thread = Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def publish(self, name: str, content: bytes) -> Pinned:
        (self.folder / name).write_bytes(content)
        return Pinned(self.url(name), hashlib.sha256(content).hexdigest())

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/{name}"

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[Publisher]:
    folder = tmp_path / "published"
    folder.mkdir()
    server = Publisher(folder)
    yield server
    server.close()


def test_published_weights_are_fetched_once_and_kept(publisher: Publisher, tmp_path: Path) -> None:
    state = whole_state()
    published = publisher.publish("resnet18-1234.pth", saved(state, tmp_path).read_bytes())
    for _ in range(2):
        teacher = load_teacher("resnet18", published=published, cache=tmp_path / "cache")
        assert torch.equal(teacher.state_dict()["conv1.weight"], state["conv1.weight"])
    assert publisher.asked == ["/resnet18-1234.pth"]
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["resnet18-1234.pth"]


def test_progress_ends_at_the_size_of_the_file(publisher: Publisher, tmp_path: Path) -> None:
    content, seen = bytes(3_000_000), []
    fetch(publisher.publish("a.pth", content), tmp_path, lambda done, total: seen.append((done, total)))
    assert len(seen) > 1 and seen == sorted(seen)
    assert seen[-1] == (len(content), len(content))


def test_a_wrong_digest_is_refused_and_nothing_is_kept(publisher: Publisher, tmp_path: Path) -> None:
    good = publisher.publish("a.pth", b"as published")
    publisher.publish("a.pth", b"as somebody changed it")
    with pytest.raises(InspectError, match=f"not the published file: 22 bytes, sha256 .*not {good.sha256}"):
        fetch(good, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_file_that_was_damaged_in_the_cache_is_fetched_again(publisher: Publisher, tmp_path: Path) -> None:
    good = publisher.publish("a.pth", b"as published")
    (tmp_path / "a.pth").write_bytes(b"as the disk left it")
    assert fetch(good, tmp_path).read_bytes() == b"as published"
    assert fetch(good, tmp_path).read_bytes() == b"as published"
    assert publisher.asked == ["/a.pth"]


def assert_says_what_to_bring(caught: pytest.ExceptionInfo[InspectError], file: Pinned) -> None:
    assert caught.value.where == file.url
    assert file.file_name in caught.value.next_step and "--teacher-weights" in caught.value.next_step


@pytest.mark.parametrize("name", ["absent.pth", "short-a.pth"])
def test_a_missing_or_broken_off_file_says_what_to_bring(
    name: str, publisher: Publisher, tmp_path: Path
) -> None:
    publisher.publish("short-a.pth", bytes(2_000_000))
    file = Pinned(publisher.url(name), "0" * 64)
    with pytest.raises(InspectError) as caught:
        fetch(file, tmp_path / "cache")
    assert_says_what_to_bring(caught, file)
    assert list((tmp_path / "cache").iterdir()) == []


def test_without_a_network_the_error_says_what_to_bring(tmp_path: Path) -> None:
    with socket.socket() as unused:  # bound but not listening: the system refuses the connection
        unused.bind(("127.0.0.1", 0))
        file = Pinned(f"http://127.0.0.1:{unused.getsockname()[1]}/resnet18-f37072fd.pth", "0" * 64)
        with pytest.raises(InspectError, match=r"download failed: .*refused") as caught:
            load_teacher("resnet18", published=file, cache=tmp_path)
    assert_says_what_to_bring(caught, file)


def test_a_cache_that_cannot_be_written_is_named(publisher: Publisher, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(InspectError, match=r"cannot be kept.*XDG_CACHE_HOME"):
        fetch(publisher.publish("a.pth", b""), tmp_path / "cache")


def test_the_cache_follows_the_users_setting() -> None:
    assert cache_folder({"XDG_CACHE_HOME": "/big/disk"}) == Path("/big/disk/edge-inspect")
    for environ in ({}, {"XDG_CACHE_HOME": ""}, {"XDG_CACHE_HOME": "here"}):
        assert cache_folder(environ) == Path.home() / ".cache" / "edge-inspect"


def test_every_resnet_is_pinned_by_a_digest_that_agrees_with_the_publishers_file_name() -> None:
    assert list(PUBLISHED) == RESNETS
    for name, file in PUBLISHED.items():
        found = re.fullmatch(rf"https://download\.pytorch\.org/models/{name}-([0-9a-f]{{8}})\.pth", file.url)
        assert found and re.fullmatch(found[1] + "[0-9a-f]{56}", file.sha256)
