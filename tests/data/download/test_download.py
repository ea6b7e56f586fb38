"""Downloads from a misbehaving server on this machine; no network is used."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gtex_vae.data.download import releases, transfer
from gtex_vae.data.download.download import fetch, fetch_release
from gtex_vae.data.download.releases import RemoteFile
from gtex_vae.errors import ConfigError, DownloadError

CONTENT = bytes(i * i % 251 for i in range(5000)) + os.urandom(3000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """Serves one content; each request takes the next step of the plan, or is answered properly."""

    def __init__(self) -> None:
        self.content, self.etag = CONTENT, '"v1"'
        self.plan: list[dict[str, Any]] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.stalled, self.go_on = threading.Event(), threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.requests.append((self.path, dict(self.headers)))
                self.close_connection = True
                with suppress(OSError):
                    server.answer(self, **(server.plan.pop(0) if server.plan else {}))

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.http.server_port}"
        self.url = f"{self.address}/matrix.gct.gz"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def answer(
        self,
        handler: BaseHTTPRequestHandler,
        *,
        status: int | None = None,
        headers: dict[str, str] | None = None,
        ranges: bool = True,
        etag: str | None = None,
        content: bytes | None = None,
        cut: int | None = None,
        reset: bool = False,
        stall: bool = False,
        shift: int = 0,
        length: bool = True,
        chunked: bool = False,
        stubborn: bool = False,
    ) -> None:
        """Answer correctly, or with at most `cut` bytes, or from `shift` bytes off the requested position."""
        if etag is not None:
            self.etag = etag
        if content is not None:
            self.content = content
        start = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        same = stubborn or handler.headers.get("If-Range") == self.etag
        offset = int(start[1]) if start and ranges and same else 0
        if offset >= len(self.content) and offset:
            status = 416
        body = self.content[offset + shift :] if status is None else b"<html>sorry</html>"
        handler.send_response(status or (206 if offset else 200))
        if status is None:
            if self.etag:
                handler.send_header("ETag", self.etag)
            if offset:
                last = len(self.content) - 1
                handler.send_header("Content-Range", f"bytes {offset + shift}-{last}/{len(self.content)}")
        if chunked:
            handler.send_header("Transfer-Encoding", "chunked")
        elif length:
            handler.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.end_headers()
        sent = body if cut is None else body[:cut]
        if chunked:
            sent = b"%x\r\n%s\r\n" % (len(sent), sent) + (b"0\r\n\r\n" if cut is None else b"")
        handler.wfile.write(sent)
        handler.wfile.flush()
        if stall:
            self.stalled.set()
            self.go_on.wait(20)
        if reset:
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.connection.close()

    def ranges(self) -> list[str | None]:
        """What each request asked for."""
        return [headers.get("Range") for _, headers in self.requests]

    def stop(self) -> None:
        self.go_on.set()
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that asks for any other host gets the answer of a machine without a network."""
    real = socket.getaddrinfo

    def guarded(host: Any, *arguments: Any, **keywords: Any) -> Any:
        if host != "127.0.0.1":
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return real(host, *arguments, **keywords)

    monkeypatch.setattr(socket, "getaddrinfo", guarded)
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "raw" / "matrix.gct.gz"


class Waits(list[float]):
    """Stands for `time.sleep`."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def lock_of(target: Path) -> dict[str, Any]:
    entries: dict[str, Any] = json.loads((target.parent / "downloads.lock.json").read_text())
    return entries


def leftovers(target: Path) -> set[str]:
    return {path.name for path in target.parent.glob("*") if not path.name.startswith(".")}


def refusal(*arguments: Any, **keywords: Any) -> str:
    """Message of the `DownloadError`, which must be one line."""
    with pytest.raises(DownloadError) as caught:
        fetch(*arguments, **{"sleep": Waits(), **keywords})
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_first_download_is_recorded_and_the_second_asks_nobody(server: Server, target: Path) -> None:
    assert fetch(server.url, target) == target
    assert target.read_bytes() == CONTENT
    entry = lock_of(target)["matrix.gct.gz"]
    assert (entry["url"], entry["size"], entry["sha256"]) == (server.url, len(CONTENT), SHA256)
    assert leftovers(target) == {"matrix.gct.gz", "downloads.lock.json"}
    assert not (target.parent / ".matrix.gct.gz.lock").exists()
    written = (target.parent / "downloads.lock.json").stat().st_mtime_ns
    fetch(server.url, target)
    assert len(server.requests) == 1
    assert (target.parent / "downloads.lock.json").stat().st_mtime_ns == written


def test_first_request_is_plain_and_names_us(server: Server, target: Path) -> None:
    fetch(server.url, target)
    headers = server.requests[0][1]
    assert headers["User-Agent"].startswith("gtex-vae/")
    assert headers["Accept-Encoding"] == "identity"
    assert "Range" not in headers


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_broken_connection_goes_on_where_it_stopped(server: Server, target: Path, reset: bool) -> None:
    server.plan = [{"cut": 1000, "stall": reset, "reset": reset}, {"cut": 2500}]
    server.go_on.set()
    waits = Waits()
    fetch(server.url, target, sleep=waits)
    assert target.read_bytes() == CONTENT
    first, second, third = server.ranges()
    assert first is None
    if not reset:
        assert (second, third) == ("bytes=1000-", "bytes=3500-")
        assert waits == [1.0, 1.0]
    assert server.requests[-1][1]["If-Range"] == '"v1"'


def test_a_hundred_breaks_are_survived_while_bytes_come(server: Server, target: Path) -> None:
    server.plan = [{"cut": 50}] * 100
    fetch(server.url, target, attempts=2, sleep=Waits())
    assert target.read_bytes() == CONTENT
    assert len(server.requests) == 101


def test_gives_up_after_tries_that_bring_nothing(server: Server, target: Path) -> None:
    server.plan = [{"cut": 1000}] + [{"cut": 0}] * 10
    waits = Waits()
    message = refusal(server.url, target, sleep=waits, attempts=4)
    assert "the connection broke (closed by the server), 4 times in a row" in message
    assert waits == [1.0, 1.0, 2.0, 4.0]
    assert not target.exists()
    assert target.with_name("matrix.gct.gz.part").read_bytes() == CONTENT[:1000]
    server.plan = []
    fetch(server.url, target)
    assert server.ranges()[-1] == "bytes=1000-"
    assert target.read_bytes() == CONTENT


def test_stalled_connection_times_out_and_goes_on(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "TIMEOUT_S", 0.2)
    server.plan = [{"cut": 700, "stall": True}]
    fetch(server.url, target, sleep=Waits())
    assert server.ranges() == [None, "bytes=700-"]
    assert target.read_bytes() == CONTENT


def test_server_without_ranges_starts_anew(server: Server, target: Path) -> None:
    server.plan = [{"cut": 3000}, {"ranges": False}]
    fetch(server.url, target, sleep=Waits())
    assert server.ranges() == [None, "bytes=3000-"]
    assert target.read_bytes() == CONTENT


def test_server_without_ranges_that_always_breaks_is_given_up(server: Server, target: Path) -> None:
    server.plan = [{"cut": 3000, "ranges": False}] * 20
    assert "5 times in a row" in refusal(server.url, target)
    assert len(server.requests) == 6


def test_changed_version_is_not_appended_to_the_old(server: Server, target: Path) -> None:
    newer = CONTENT[::-1] + b"more"
    server.plan = [{"cut": 4000}, {"etag": '"v2"', "content": newer}]
    fetch(server.url, target, sleep=Waits())
    assert target.read_bytes() == newer
    assert len(server.requests) == 2


def test_changed_version_sent_as_a_part_all_the_same_is_noticed(server: Server, target: Path) -> None:
    newer = CONTENT[::-1]
    server.plan = [{"cut": 4000}, {"etag": '"v2"', "content": newer, "stubborn": True}]
    fetch(server.url, target, sleep=Waits())
    assert server.ranges() == [None, "bytes=4000-", None]
    assert target.read_bytes() == newer


def test_version_that_changes_at_every_try_ends(server: Server, target: Path) -> None:
    server.plan = [{"cut": 4000, "etag": f'"v{i}"'} for i in range(2, 30)]
    assert "5 times in a row" in refusal(server.url, target)
    assert not target.exists()


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
def test_without_a_strong_validator_nothing_is_appended(server: Server, target: Path, etag: str) -> None:
    server.plan = [{"cut": 4000, "etag": etag}]
    fetch(server.url, target, sleep=Waits())
    assert server.ranges() == [None, None]
    assert target.read_bytes() == CONTENT


def test_date_of_change_serves_as_validator(server: Server, target: Path) -> None:
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    server.plan = [{"cut": 4000, "etag": "", "headers": {"Last-Modified": date}}]
    fetch(server.url, target, sleep=Waits())
    assert server.requests[1][1]["If-Range"] == date
    assert target.read_bytes() == CONTENT


def test_part_from_the_wrong_offset_is_thrown_away(server: Server, target: Path) -> None:
    server.plan = [{"cut": 4000}, {"shift": 7}]
    fetch(server.url, target, sleep=Waits())
    assert server.ranges() == [None, "bytes=4000-", None]
    assert target.read_bytes() == CONTENT


def test_part_longer_than_the_file_is_thrown_away(server: Server, target: Path) -> None:
    server.plan = [{"cut": 4000}] + [{"cut": 0}] * 5
    refusal(server.url, target)
    server.plan, server.content = [], CONTENT[:3000]
    fetch(server.url, target, sleep=Waits())
    assert server.ranges()[-2:] == ["bytes=4000-", None]
    assert target.read_bytes() == CONTENT[:3000]


def test_part_of_another_address_is_not_used(server: Server, target: Path) -> None:
    server.plan = [{"cut": 4000}] + [{"cut": 0}] * 5
    refusal(server.url, target)
    fetch(server.address + "/other", target, sleep=Waits())
    assert server.ranges()[-1] is None


@pytest.mark.parametrize("note", ["", "[]", '{"url": 1}'])
def test_damaged_note_of_a_part_starts_anew(server: Server, target: Path, note: str) -> None:
    target.parent.mkdir(parents=True)
    target.with_name("matrix.gct.gz.part").write_bytes(b"junk")
    target.with_name("matrix.gct.gz.part.json").write_text(note)
    fetch(server.url, target)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_passing_trouble_is_retried(server: Server, target: Path, status: int) -> None:
    server.plan = [{"status": status}, {"status": status}]
    waits = Waits()
    fetch(server.url, target, sleep=waits)
    assert waits == [1.0, 2.0]
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_lasting_refusal_is_told_at_once(server: Server, target: Path, status: int) -> None:
    server.plan = [{"status": status}]
    message = refusal(server.url, target)
    assert f"the server answers {status}" in message
    assert f"download the file by hand: {server.url} -> {target}" in message
    assert "run again" not in message
    assert len(server.requests) == 1
    assert not target.exists()


def test_server_in_trouble_for_good(server: Server, target: Path) -> None:
    server.plan = [{"status": 503}] * 10
    waits = Waits()
    message = refusal(server.url, target, sleep=waits)
    assert (
        "503 Service Unavailable, 5 times in a row; run the same command again to resume, or download"
        in message
    )
    assert waits == [1.0, 2.0, 4.0, 8.0]


def test_pause_that_the_server_asks_for_is_kept(server: Server, target: Path) -> None:
    server.plan = [{"status": 503, "headers": {"Retry-After": "7"}}]
    waits = Waits()
    fetch(server.url, target, sleep=waits)
    assert waits == [7.0]


def test_long_pause_is_handed_to_the_user(server: Server, target: Path) -> None:
    server.plan = [{"status": 429, "headers": {"Retry-After": "3600"}}]
    assert "requires a wait of 3600 s" in refusal(server.url, target)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_followed_and_resumed(server: Server, target: Path, status: int) -> None:
    hop = {"status": status, "headers": {"Location": "/elsewhere"}}
    server.plan = [hop, {"cut": 1000}, hop]
    fetch(server.url, target, sleep=Waits())
    assert [path for path, _ in server.requests] == ["/matrix.gct.gz", "/elsewhere"] * 2
    assert server.ranges()[-1] == "bytes=1000-"
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "place", ["file:///etc/hostname", "ftp://127.0.0.1/x", "data:text/plain,x", "gopher://x"]
)
def test_redirect_to_another_scheme_is_refused(server: Server, target: Path, place: str) -> None:
    server.plan = [{"status": 302, "headers": {"Location": place}}]
    message = refusal(server.url, target)
    assert f"{place} is neither http nor https (redirected there by {server.url})" in message
    assert not target.exists()


def test_endless_redirect_ends(server: Server, target: Path) -> None:
    server.plan = [{"status": 302, "headers": {"Location": "/matrix.gct.gz"}}] * 50
    assert "the server answers 302" in refusal(server.url, target)
    assert len(server.requests) < 15


def test_redirect_from_https_to_http_is_refused() -> None:
    with pytest.raises(transfer.TransferError, match="unencrypted"):
        transfer.check_address("http://a/b", source="https://a/b")
    transfer.check_address("https://a/b", source="http://a/b")


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/x", "/etc/hostname", ""])
def test_only_http_addresses(target: Path, url: str) -> None:
    assert "is neither http nor https" in refusal(url, target)


def test_wrong_sha256_leaves_nothing(server: Server, target: Path) -> None:
    message = refusal(server.url, target, sha256="0" * 64)
    assert f"sha256 {SHA256} instead of {'0' * 64} (given)" in message
    assert leftovers(target) == set()
    assert len(server.requests) == 1


def test_right_sha256_in_capitals(server: Server, target: Path) -> None:
    fetch(server.url, target, sha256=SHA256.upper())
    assert target.read_bytes() == CONTENT


def test_resumed_file_that_is_wrong_is_fetched_once_more_whole(server: Server, target: Path) -> None:
    server.plan = [{"cut": 4000}, {"content": CONTENT[::-1]}, {"content": CONTENT}]
    fetch(server.url, target, sha256=SHA256, sleep=Waits())
    assert server.ranges() == [None, "bytes=4000-", None]
    assert target.read_bytes() == CONTENT


def test_stored_md5_of_the_server_is_compared(server: Server, target: Path) -> None:
    right = base64.b64encode(hashlib.md5(CONTENT).digest()).decode()
    server.plan = [{"headers": {"x-goog-hash": f"crc32c=AAAAAA==,md5={right}"}}]
    fetch(server.url, target)
    server.plan = [{"headers": {"x-goog-hash": f"crc32c=AAAAAA==, md5={right}"}, "content": CONTENT[::-1]}]
    assert f"its md5 differs from {right}" in refusal(server.url, target.with_name("second.gct.gz"))


def test_other_size_than_expected_is_refused_before_a_byte(server: Server, target: Path) -> None:
    message = refusal(server.url, target, size=9999)
    assert "the server's file has 8000 bytes instead of 9999: it is another version" in message
    assert leftovers(target) == set()


def test_changed_file_is_refused_by_the_lock(server: Server, target: Path) -> None:
    fetch(server.url, target)
    target.unlink()
    server.content = CONTENT[::-1]
    message = refusal(server.url, target)
    assert "instead of " + SHA256 in message and "downloads.lock.json" in message
    assert not target.exists()
    server.content = CONTENT[:-1]
    assert "7999 bytes instead of 8000" in refusal(server.url, target)
    server.content = CONTENT
    fetch(server.url, target)
    assert target.read_bytes() == CONTENT


def test_without_a_stated_length(server: Server, target: Path) -> None:
    server.plan = [{"length": False}]
    assert "the server states no length" in refusal(server.url, target)
    server.plan = [{"length": False}]
    fetch(server.url, target, sha256=SHA256)
    assert target.read_bytes() == CONTENT


def test_cut_off_without_a_stated_length_is_found_by_the_size(server: Server, target: Path) -> None:
    server.plan = [{"length": False, "cut": 100}]
    assert "100 bytes instead of 8000" in refusal(server.url, target, size=len(CONTENT))
    assert not target.exists()


def test_chunked_transfer_that_breaks(server: Server, target: Path) -> None:
    server.plan = [{"chunked": True, "cut": 2000}, {"chunked": True}]
    fetch(server.url, target, sleep=Waits())
    assert target.read_bytes() == CONTENT


def test_web_page_instead_of_the_file(server: Server, target: Path) -> None:
    server.plan = [{"headers": {"Content-Type": "text/html; charset=utf-8"}}]
    assert "the server sent a web page instead of the file" in refusal(server.url, target)
    assert leftovers(target) == set()


def test_file_put_there_by_hand_is_taken_and_recorded(target: Path, caplog: pytest.LogCaptureFixture) -> None:
    target.parent.mkdir(parents=True)
    target.write_bytes(CONTENT)
    fetch("https://portal.invalid/matrix.gct.gz", target)
    assert lock_of(target)["matrix.gct.gz"]["sha256"] == SHA256
    assert "its checksum was not known" in caplog.text


@pytest.mark.parametrize("content", [b"", CONTENT[:-1], CONTENT[::-1]], ids=["empty", "short", "other"])
def test_damaged_file_is_named_and_not_touched(server: Server, target: Path, content: bytes) -> None:
    fetch(server.url, target)
    target.write_bytes(content)
    message = refusal(server.url, target)
    assert (
        f"{target} is damaged or another version" in message
        and "delete it and run the same command again" in message
    )
    assert target.read_bytes() == content
    assert len(server.requests) == 1


def test_destination_of_another_address_is_refused(server: Server, target: Path) -> None:
    fetch(server.url, target)
    assert "use another destination" in refusal(server.address + "/other", target)


@pytest.mark.parametrize("text", ["{", "[1]", '{"a": {"sha256": "x"}}', '{"a": 3}'])
def test_damaged_lock_file_is_named(server: Server, target: Path, text: str) -> None:
    target.parent.mkdir(parents=True)
    lock = target.parent / "downloads.lock.json"
    lock.write_text(text)
    assert f"{lock} is damaged" in refusal(server.url, target)
    assert lock.read_text() == text


def test_offline_is_told_at_once_with_the_way_out(target: Path) -> None:
    waits = Waits()
    message = refusal("https://portal.invalid/a.gz", target, sha256=SHA256, sleep=waits)
    assert message == (
        "cannot download matrix.gct.gz: cannot reach portal.invalid (Temporary failure in name resolution); "
        "run the same command again to resume, or download the file by hand: "
        f"https://portal.invalid/a.gz -> {target} (sha256 {SHA256})"
    )
    assert waits == []


def test_network_lost_half_way_is_waited_for(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.plan = [{"cut": 1000}]
    waits = Waits()
    with monkeypatch.context() as context:

        def pause(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 1:
                context.setattr(socket, "getaddrinfo", lost)
            else:
                context.undo()

        def lost(*_: Any, **__: Any) -> Any:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

        fetch(server.url, target, sleep=pause)
    assert waits == [1.0, 1.0]
    assert target.read_bytes() == CONTENT


def test_nobody_listens(target: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        message = refusal(f"http://127.0.0.1:{taken.getsockname()[1]}/x", target, attempts=2)
    assert "Connection refused), 2 times in a row" in message


def test_mirror_is_tried_while_nothing_came(server: Server, target: Path) -> None:
    server.plan = [{"status": 404}]
    fetch(server.url, target, mirrors=[server.address + "/mirror"])
    assert [path for path, _ in server.requests] == ["/matrix.gct.gz", "/mirror"]
    fetch(server.url, target, mirrors=[server.address + "/mirror"])
    assert len(server.requests) == 2


def test_mirror_does_not_throw_away_what_came(server: Server, target: Path) -> None:
    server.plan = [{"cut": 1000}] + [{"status": 500}] * 5
    refusal(server.url, target, mirrors=[server.address + "/mirror"])
    assert {path for path, _ in server.requests} == {"/matrix.gct.gz"}


def test_disk_that_fills_half_way_keeps_what_came(server: Server, target: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    try:
        message = refusal(server.url, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "the 3000 bytes received are kept" in message and "cannot write" in message
    assert not target.exists()
    fetch(server.url, target)
    assert server.ranges()[-1] == "bytes=3000-"
    assert target.read_bytes() == CONTENT


def test_disk_without_room_is_told_before_a_byte(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("usage", (), {"free": 10})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    message = refusal(server.url, target)
    assert "No space left on device (8000 bytes more are needed, 10 are free)" in message


def test_folder_that_is_a_file(server: Server, tmp_path: Path) -> None:
    (tmp_path / "raw").write_text("")
    assert "cannot write" in refusal(server.url, tmp_path / "raw" / "a.gz")


def test_destination_that_is_a_folder(server: Server, tmp_path: Path) -> None:
    assert f"cannot read {tmp_path}: Is a directory" in refusal(server.url, tmp_path)


def test_killed_process_is_gone_on_with(server: Server, target: Path) -> None:
    server.plan = [{"cut": 5000, "stall": True}]
    code = "import sys; from gtex_vae.data.download.download import fetch; fetch(sys.argv[1], sys.argv[2])"
    victim = subprocess.Popen([sys.executable, "-c", code, server.url, str(target)])
    part = target.with_name("matrix.gct.gz.part")
    try:
        assert server.stalled.wait(20)
        deadline = time.monotonic() + 20
        while not (part.exists() and part.stat().st_size == 5000):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        victim.send_signal(signal.SIGKILL)
        victim.wait()
    assert not target.exists()
    server.go_on.set()
    fetch(server.url, target)
    assert server.ranges() == [None, "bytes=5000-"]
    assert target.read_bytes() == CONTENT


def test_killed_before_the_renaming_needs_no_network(server: Server, target: Path) -> None:
    fetch(server.url, target)
    entry = {"url": server.url, "validator": '"v1"', "size": len(CONTENT), "md5": None}
    target.rename(target.with_name("matrix.gct.gz.part"))
    target.with_name("matrix.gct.gz.part.json").write_text(json.dumps(entry))
    fetch(server.url, target)
    assert target.read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_two_at_once_download_once(server: Server, target: Path) -> None:
    server.plan = [{"cut": 4000, "stall": True}]
    first = threading.Thread(target=fetch, args=(server.url, target), kwargs={"sleep": Waits()})
    second = threading.Thread(target=fetch, args=(server.url, target), kwargs={"sleep": Waits()})
    first.start()
    assert server.stalled.wait(20)
    second.start()
    time.sleep(0.1)
    server.go_on.set()
    first.join(20)
    second.join(20)
    assert server.ranges() == [None, "bytes=4000-"]
    assert target.read_bytes() == CONTENT


STEP = st.one_of(
    st.builds(dict, cut=st.integers(0, 8000)),
    st.builds(dict, cut=st.integers(0, 8000), ranges=st.just(False)),
    st.builds(dict, cut=st.integers(0, 8000), etag=st.sampled_from(['"v1"', '"v2"', 'W/"v1"', ""])),
    st.builds(dict, shift=st.integers(-50, 50), cut=st.integers(0, 8000)),
    st.builds(dict, chunked=st.just(True), cut=st.none() | st.integers(0, 7999)),
    st.builds(dict, length=st.just(False), cut=st.none() | st.integers(0, 8000)),
    st.builds(dict, status=st.sampled_from([206, 404, 416, 429, 500, 503])),
    st.just({"content": CONTENT[::-1], "etag": '"other"'}),
)


@settings(max_examples=40, deadline=None)
@given(plan=st.lists(STEP, max_size=8))
def test_whatever_the_server_does_the_file_is_right_or_not_there(plan: list[dict[str, Any]]) -> None:
    server = Server()
    try:
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "matrix.gct.gz"
            server.plan = [dict(step) for step in plan]
            try:
                fetch(server.url, target, sha256=SHA256, attempts=3, sleep=Waits())
            except DownloadError:
                assert not target.exists()
            else:
                assert target.read_bytes() == CONTENT
            server.plan, server.content, server.etag = [], CONTENT, '"v1"'
            fetch(server.url, target, sha256=SHA256, sleep=Waits())
            assert target.read_bytes() == CONTENT
    finally:
        server.stop()


def test_release_comes_whole_with_one_lock_file(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releases, "_BUCKET", server.address)
    paths = fetch_release("gtex_v10", tmp_path, tissues=["Whole Blood", "brain_cortex"])
    folder = tmp_path / "gtex_v10"
    assert [path.name for path in paths["expression"]] == [
        "gene_tpm_v10_whole_blood.gct.gz",
        "gene_tpm_v10_brain_cortex.gct.gz",
    ]
    assert paths["samples"] == [folder / "GTEx_Analysis_v10_Annotations_SampleAttributesDS.txt"]
    assert set(json.loads((tmp_path / "downloads.lock.json").read_text())) == {
        f"gtex_v10/{path.name}" for kind in paths.values() for path in kind
    }
    assert server.requests[0][0] == "/bulk-gex/v10/rna-seq/tpms-by-tissue/gene_tpm_v10_whole_blood.gct.gz"


def test_release_offline_lists_every_missing_file(tmp_path: Path) -> None:
    there = tmp_path / "gtex_v8" / "GTEx_Analysis_v8_Annotations_SubjectPhenotypesDS.txt"
    there.parent.mkdir()
    there.write_text("SUBJID\n")
    with pytest.raises(DownloadError) as caught:
        fetch_release("gtex_v8", tmp_path, sleep=Waits())
    message = str(caught.value)
    for file in releases.release_files("gtex_v8"):
        line = f"{file.urls[0]} -> {tmp_path / 'gtex_v8' / file.name}"
        assert (line in message) is (file.name != there.name)
        assert file.sha256 is None or f"(sha256 {file.sha256})" in message
    assert "\n" not in message


@pytest.mark.parametrize("release", releases.RELEASES)
def test_release_table_is_consistent(release: str) -> None:
    files = releases.release_files(release)
    assert [file.kind for file in files][:2] == ["expression", "samples"]
    for file in files:
        assert all(url.startswith("https://") and url.endswith(file.name) for url in file.urls)
        assert file.sha256 is None or re.fullmatch("[0-9a-f]{64}", file.sha256)


def test_published_names_and_sums() -> None:
    tpm, samples, _ = releases.release_files("gtex_v8")
    assert tpm == RemoteFile(
        "expression",
        "GTEx_Analysis_2017-06-05_v8_RNASeQCv1.1.9_gene_tpm.gct.gz",
        (
            "https://storage.googleapis.com/adult-gtex/bulk-gex/v8/rna-seq/"
            "GTEx_Analysis_2017-06-05_v8_RNASeQCv1.1.9_gene_tpm.gct.gz",
        ),
        "ec783825ebebb8ba8525b73cb7ff9577162bc0d2e8a7fdc408283b7639c306fb",
    )
    assert samples.sha256 is not None and samples.sha256.startswith("74f6ab4c")
    counts = releases.release_files("gtex_v11", ["lung"], "counts")[0]
    folder = "https://storage.googleapis.com/adult-gtex/bulk-gex/v11/rna-seq/counts-by-tissue"
    assert counts.urls == (
        f"{folder}/gene_reads_adult_gtex_v11_lung.gct.gz",
        f"{folder}/gene_reads_v11_lung.gct.gz",
    )


@pytest.mark.parametrize(
    ("label", "slug"),
    [
        ("Brain - Spinal cord (cervical c-1)", "brain_spinal_cord_cervical_c-1"),
        ("Cells - EBV-transformed lymphocytes", "cells_ebv-transformed_lymphocytes"),
        ("Skin - Not Sun Exposed (Suprapubic)", "skin_not_sun_exposed_suprapubic"),
        ("Brain - Anterior cingulate cortex (BA24)", "brain_anterior_cingulate_cortex_ba24"),
        ("Whole Blood", "whole_blood"),
    ],
)
def test_tissue_labels_become_the_portals_names(label: str, slug: str) -> None:
    assert releases.tissue_slug(label) == slug
    assert slug in releases.TISSUES
    assert len(releases.TISSUES) == 54 and not releases.TISSUES & releases.DISSECTED


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("gtex_v9",), "did you mean gtex_v8"),
        (("gtex_v10", ["brain cortx"]), "did you mean brain_cortex"),
        (("gtex_v8", ["liver_hepatocyte"]), "gtex_v8 has no file for the tissue 'liver_hepatocyte'"),
        (("gtex_v8", []), "names no tissue of gtex_v8"),
        (("gtex_v8", None, "rpkm"), "it is tpm or counts"),
        (("gtex_xena", ["liver"]), "no files by tissue"),
        (("gtex_xena", None, "counts"), "for counts use"),
    ],
)
def test_wrong_request_names_the_way_out(arguments: tuple[Any, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        releases.release_files(*arguments)
