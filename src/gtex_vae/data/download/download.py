"""Public files, fetched once: resumed after a broken connection, verified, and cached.

The final name appears only when the file is whole and verified; until then the bytes wait in `NAME.part`.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gtex_vae.data.download.checksums import LOCK_NAME, DownloadLock
from gtex_vae.data.download.releases import RemoteFile, release_files
from gtex_vae.data.download.transfer import BLOCK, PartialFile, TransferError, transfer
from gtex_vae.errors import DownloadError

LONGEST_WAIT_S = 60.0

log = logging.getLogger(__name__)


class _ChecksumError(Exception):
    """A file is there, or came, that is not the one expected."""


@dataclass(frozen=True)
class _Expected:
    """What a file must be, as far as anybody knows, and who says so."""

    sha256: str | None
    size: int | None
    source: str


def fetch(
    url: str,
    destination: Path | str,
    *,
    mirrors: Sequence[str] = (),
    sha256: str | None = None,
    size: int | None = None,
    lock: Path | str | None = None,
    attempts: int = 5,
    sleep: Callable[[float], None] = time.sleep,
) -> Path:
    """Get one file, unless it is there and right already.

    Without `sha256` the sum is recorded in the lock file at the first download and verified ever after.

    Parameters
    ----------
    url
        http(s) address.
    destination
        Where the file shall be. A file put there by hand is taken, verified and recorded like any other.
    mirrors
        Addresses of the same file, tried in turn while not a byte of it has come.
    sha256
        Expected hex digest.
    size
        Expected size in bytes.
    lock
        Lock file; `downloads.lock.json` beside the destination by default.
    attempts
        Tries in a row that bring nothing new before giving up. One that brings bytes starts the count again.
    sleep
        Waits the given seconds between tries.

    Returns
    -------
    Path
        `destination`, whole and verified.

    Raises
    ------
    DownloadError
        The file could not be had, or is not the right one. What stood at `destination` still does.

    References
    ----------
    RFC 9110, sections 13.1.5 (If-Range) and 14 (Range requests).
    """
    destination = Path(destination)
    wanted = RemoteFile("file", destination.name, (url, *mirrors), sha256)
    ledger = DownloadLock(Path(lock) if lock else destination.parent / LOCK_NAME)
    try:
        return _obtain(wanted, destination, ledger, size=size, attempts=attempts, sleep=sleep)
    except TransferError as error:
        raise DownloadError(
            f"cannot download {wanted.name}: {_by_hand(error, [(wanted, destination)])}"
        ) from error


def fetch_release(
    release: str,
    raw_dir: Path | str,
    *,
    tissues: Sequence[str] | None = None,
    expression: str = "tpm",
    attempts: int = 5,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, list[Path]]:
    """Get the expression and annotation files of a release into `raw_dir/<release>/`.

    Parameters
    ----------
    release, tissues, expression
        As for `gtex_vae.data.download.releases.release_files`.
    raw_dir
        Usually `data/raw`; holds the lock file.
    attempts, sleep
        As for `fetch`.

    Returns
    -------
    dict
        Paths by kind: `expression`, `samples`, and `subjects` where the release has them apart.

    Raises
    ------
    ConfigError
        No such release or tissue.
    DownloadError
        A file could not be had. The message lists every file that is still missing and where to put it.
    """
    raw_dir = Path(raw_dir)
    places = [(file, raw_dir / release / file.name) for file in release_files(release, tissues, expression)]
    ledger = DownloadLock(raw_dir / LOCK_NAME)
    paths: dict[str, list[Path]] = {}
    for file, destination in places:
        try:
            path = _obtain(file, destination, ledger, size=None, attempts=attempts, sleep=sleep)
        except TransferError as error:
            missing = [(other, place) for other, place in places if not place.exists()]
            raise DownloadError(f"cannot download {file.name}: {_by_hand(error, missing)}") from error
        paths.setdefault(file.kind, []).append(path)
    return paths


def _by_hand(error: TransferError, missing: Sequence[tuple[RemoteFile, Path]]) -> str:
    """Say what to put where, when the network does not."""
    steps = [
        f"{file.urls[0]} -> {place}" + (f" (sha256 {file.sha256})" if file.sha256 else "")
        for file, place in missing
    ]
    again = "run again to go on where it stopped, or " if error.retry or error.offline else ""
    what = "the file" if len(steps) == 1 else f"these {len(steps)} files"
    return f"{error}; {again}put {what} there by hand: {', '.join(steps)}"


def _obtain(
    file: RemoteFile,
    destination: Path,
    ledger: DownloadLock,
    *,
    size: int | None,
    attempts: int,
    sleep: Callable[[float], None],
) -> Path:
    """Take the file that is there, or download it; one process at a time."""
    from filelock import FileLock, Timeout

    if destination.exists():
        return _accept(file, destination, ledger, size)
    partial = PartialFile(destination)
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        busy = destination.with_name(f".{destination.name}.lock")
        turn = FileLock(busy)
        try:
            held = turn.acquire(timeout=0)
        except Timeout:
            log.warning("%s: another process is downloading it; waiting", destination)
            held = turn.acquire()
        with held:
            if destination.exists():
                return _accept(file, destination, ledger, size)
            _download(file, destination, partial, ledger, size, attempts, sleep)
            busy.unlink(missing_ok=True)
            return destination
    except OSError as error:
        raise DownloadError(
            f"cannot write {error.filename or partial.path}: {error.strerror or error}; "
            f"the {partial.size} bytes that came are kept: mend it and run again to go on from there"
        ) from error


def _expected(file: RemoteFile, destination: Path, ledger: DownloadLock, size: int | None) -> _Expected:
    """Sum and size that the file must have, and who says so."""
    entry = ledger.get(destination)
    if entry and entry.url not in file.urls:
        raise DownloadError(
            f"{destination} belongs to {entry.url} in {ledger.path}, not to {file.urls[0]}: "
            "use another destination, or delete the file and its entry"
        )
    if file.sha256:
        return _Expected(file.sha256.lower(), size, "given")
    return (
        _Expected(entry.sha256, size or entry.size, f"in {ledger.path}")
        if entry
        else _Expected(None, size, "given")
    )


def _check(path: Path, expected: _Expected, md5: str | None = None) -> str:
    """Compare size and sums; return the sha256."""
    from tqdm import tqdm

    there = path.stat().st_size
    if expected.size not in (None, there):
        raise _ChecksumError(f"{there} bytes instead of {expected.size} ({expected.source})")
    sha256, stored = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with (
        open(path, "rb") as file,
        tqdm(
            total=there, unit="B", unit_scale=True, desc=f"verify {path.name}", disable=None, delay=2
        ) as bar,
    ):
        while block := file.read(BLOCK):
            sha256.update(block)
            if md5:
                stored.update(block)
            bar.update(len(block))
    if expected.sha256 not in (None, sha256.hexdigest()):
        raise _ChecksumError(f"sha256 {sha256.hexdigest()} instead of {expected.sha256} ({expected.source})")
    if md5 and base64.b64encode(stored.digest()).decode() != md5:
        raise _ChecksumError(f"its md5 is not the {md5} that the server states")
    return sha256.hexdigest()


def _accept(file: RemoteFile, destination: Path, ledger: DownloadLock, size: int | None) -> Path:
    """Verify a file that is already there, and record one that was put there by hand."""
    expected = _expected(file, destination, ledger, size)
    try:
        sha256 = _check(destination, expected)
    except _ChecksumError as error:
        raise DownloadError(
            f"{destination} is damaged or another version ({error}): delete it and run again to download it"
        ) from error
    except OSError as error:
        raise DownloadError(f"cannot read {destination}: {error.strerror or error}") from error
    if ledger.get(destination) is None:
        if expected.sha256 is None:
            log.warning(
                "%s: found there and taken as it is; no checksum was known, this one is kept", destination
            )
        try:
            ledger.record(destination, file.urls[0], destination.stat().st_size, sha256)
        except OSError as error:
            log.warning("%s: cannot record a checksum (%s)", ledger.path, error)
    return destination


def _download(
    file: RemoteFile,
    destination: Path,
    partial: PartialFile,
    ledger: DownloadLock,
    size: int | None,
    attempts: int,
    sleep: Callable[[float], None],
) -> None:
    """Fetch from the first address that has the file, record it, and only then give it its name."""
    expected = _expected(file, destination, ledger, size)
    for number, url in enumerate(file.urls, start=1):
        try:
            sha256 = _persist(url, partial, expected, attempts, sleep)
            break
        except TransferError as error:
            if number == len(file.urls) or partial.size:
                raise
            log.warning("%s: %s; trying %s", destination.name, error, file.urls[number])
    with open(partial.path, "rb") as whole:
        os.fsync(whole.fileno())
    # Recorded first: a job killed in between leaves a whole part and its sum, not a file nobody vouches for.
    ledger.record(destination, url, partial.size, sha256)
    os.replace(partial.path, destination)
    partial.note.unlink(missing_ok=True)


def _persist(
    url: str, partial: PartialFile, expected: _Expected, attempts: int, sleep: Callable[[float], None]
) -> str:
    """Try until the part is whole and right; return its sha256."""
    from tqdm import tqdm

    furthest, failures, received = partial.size, 0, False
    with tqdm(unit="B", unit_scale=True, desc=partial.path.stem, disable=None) as bar:

        def came(there: int, whole: int | None) -> None:
            if not bar.n:
                bar.initial = there
            bar.total = whole
            bar.update(there - bar.n)

        while True:
            pieced = partial.size > 0
            try:
                transfer(
                    url, partial, size=expected.size, sha256_known=expected.sha256 is not None, came=came
                )
                origin = partial.origin()
                return _check(partial.path, expected, origin.md5 if origin else None)
            except TransferError as error:
                failure, again = error, error.retry or (error.offline and received)
            except _ChecksumError as error:
                # Pieces may come from different versions where a server does not say so; a whole one may not.
                partial.discard()
                failure, again = TransferError(f"what came is not the right file ({error})"), pieced
            if partial.size > furthest:
                furthest, failures, received = partial.size, 0, True
            else:
                failures += 1
            wait_s = failure.wait_s if failure.wait_s is not None else 2.0 ** max(failures - 1, 0)
            if not again:
                raise failure
            if failures >= attempts:
                raise TransferError(f"{failure}, {failures} times in a row", retry=True) from failure
            if wait_s > LONGEST_WAIT_S:
                raise TransferError(
                    f"{failure} and asks to come back in {wait_s:.0f} s", retry=True
                ) from failure
            log.warning("%s: %s; next try in %.0f s from byte %d", url, failure, wait_s, partial.size)
            sleep(wait_s)
