"""The cache within one process: what it fetches, keeps, evicts and refuses."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.core.errors import (
    Aborted,
    DataLoss,
    FailedPrecondition,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)
from cluster.core.fetch_progress import FetchProgress
from cluster.model_cache.fetch import FetchOptions
from cluster.model_cache.model_cache import CachedVersion, ModelCache
from cluster.storage.version_manifest import MANIFEST_NAME, ManifestFile, VersionManifest
from tests.fakes.remote_storage import RemoteStorage, fingerprint_in

OPTIONS = FetchOptions(part_bytes=4000, threads=4, patience_s=1.0)
FILES = {"saved_model.pb": 10_001, "variables/variables.data-00000-of-00001": 30_000, "variables/index": 10, "assets/empty": 0}


def silent(_: FetchProgress) -> None:
    pass


@pytest.fixture
def storage() -> RemoteStorage:
    return RemoteStorage()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def cache(directory: Path, storage: RemoteStorage) -> ModelCache:
    return ModelCache(directory, storage, options=OPTIONS)


def store(path: Path, sizes: dict[str, int] = FILES) -> str:
    for name, size_bytes in sizes.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(os.urandom(size_bytes))
    return str(path)


def with_manifest(path: str) -> str:
    root = Path(path)
    files = [file for file in sorted(root.rglob("*")) if file.is_file()]
    manifest = VersionManifest(
        tuple(
            ManifestFile(file.relative_to(root).as_posix(), file.stat().st_size, hashlib.sha256(file.read_bytes()).hexdigest())
            for file in files
        )
    )
    (root / MANIFEST_NAME).write_bytes(manifest.to_json())
    return path


@pytest.fixture
def version(tmp_path: Path) -> str:
    return store(tmp_path / "store" / "1")


def acquire(cache: ModelCache, storage: RemoteStorage, path: str) -> CachedVersion:
    return cache.acquire(path, fingerprint_in(storage, path), silent)


def assert_same(found: Path, path: str) -> None:
    root = Path(path)
    names = [file.relative_to(root) for file in root.rglob("*") if file.is_file()]
    assert sorted(names) == sorted(file.relative_to(found) for file in found.rglob("*") if file.is_file())
    for name in names:
        assert (found / name).read_bytes() == (root / name).read_bytes(), name


def test_a_version_is_fetched_whole_and_each_byte_once(cache: ModelCache, storage: RemoteStorage, version: str) -> None:
    cached = acquire(cache, storage, version)
    assert_same(cached.files, version)
    assert cached.fetched_bytes == storage.all_read_bytes == sum(FILES.values())


def test_what_is_there_is_used_without_asking_the_store(cache: ModelCache, storage: RemoteStorage, version: str) -> None:
    fingerprint = fingerprint_in(storage, version)
    cache.acquire(version, fingerprint, silent).release()
    shutil.rmtree(version)
    storage.listings = 0
    cached = cache.acquire(version, fingerprint, silent)
    assert cached.fetched_bytes == storage.listings == 0
    assert (cached.files / "variables/index").stat().st_size == 10


def test_files_can_be_read_but_not_written_by_accident(
    cache: ModelCache, storage: RemoteStorage, version: str, directory: Path
) -> None:
    files = acquire(cache, storage, version).files
    assert {stat.S_IMODE(file.stat().st_mode) for file in files.rglob("*") if file.is_file()} == {0o444}
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_many_threads_fetch_once(cache: ModelCache, storage: RemoteStorage, version: str) -> None:
    fingerprint = fingerprint_in(storage, version)
    with ThreadPoolExecutor(8) as executor:
        found = list(executor.map(lambda _: cache.acquire(version, fingerprint, silent), range(8)))
    assert storage.all_read_bytes == sum(FILES.values())
    assert sorted(cached.fetched_bytes for cached in found) == [0] * 7 + [sum(FILES.values())]


def test_who_waits_for_another_hears_the_same_progress(cache: ModelCache, storage: RemoteStorage, version: str) -> None:
    halfway, go_on = threading.Event(), threading.Event()

    def hold(name: str, position: int) -> None:
        if storage.all_read_bytes >= 20_000:
            halfway.set()
            go_on.wait()

    storage.before_piece = hold
    fingerprint = fingerprint_in(storage, version)
    heard: list[FetchProgress] = []

    def hear(progress: FetchProgress) -> None:
        heard.append(progress)
        go_on.set()

    with ThreadPoolExecutor(2) as executor:
        first = executor.submit(cache.acquire, version, fingerprint, silent)
        halfway.wait()
        second = executor.submit(cache.acquire, version, fingerprint, hear)
        assert first.result().files == second.result().files
    assert 0 < heard[0].bytes_done < heard[0].bytes_total == sum(FILES.values())


# -- a store that fails


@pytest.mark.parametrize("error", [Unavailable("cut"), ResourceExhausted("slow down")])
def test_a_part_that_is_cut_off_is_taken_up_where_it_ended(
    cache: ModelCache, storage: RemoteStorage, version: str, error: Exception
) -> None:
    cut: set[tuple[str, int]] = set()

    def cut_each_once(name: str, position: int) -> None:
        if position % 4000 == 2000 and (name, position) not in cut:
            cut.add((name, position))
            raise error

    storage.before_piece = cut_each_once
    cached = acquire(cache, storage, version)
    assert_same(cached.files, version)
    assert len(cut) > 5
    assert storage.all_read_bytes == sum(FILES.values())


def test_a_store_that_stays_away_is_told_of_and_the_next_fetch_brings_only_the_rest(
    directory: Path, storage: RemoteStorage, version: str
) -> None:
    cache = ModelCache(directory, storage, options=replace(OPTIONS, patience_s=3.0))

    def away(name: str, position: int) -> None:
        if storage.all_read_bytes >= 20_000:
            raise Unavailable("nobody listens")

    storage.before_piece = away
    heard: list[FetchProgress] = []
    with pytest.raises(Unavailable, match="nobody listens"):
        cache.acquire(version, fingerprint_in(storage, version), heard.append)
    assert "nobody listens" in {progress.trouble for progress in heard}
    storage.before_piece = lambda name, position: None
    cached = acquire(cache, storage, version)
    assert_same(cached.files, version)
    assert cached.fetched_bytes < sum(FILES.values())
    assert storage.all_read_bytes < sum(FILES.values()) + OPTIONS.threads * OPTIONS.part_bytes


def test_a_refusal_is_told_at_once(cache: ModelCache, storage: RemoteStorage, version: str) -> None:
    refusals = 0

    def refuse(name: str, position: int) -> None:
        nonlocal refusals
        refusals += 1
        raise PermissionDenied("not yours")

    storage.before_piece = refuse
    with pytest.raises(PermissionDenied, match="not yours"):
        acquire(cache, storage, version)
    assert refusals <= OPTIONS.threads


def test_a_version_that_has_changed_since_it_was_found_is_aborted(
    cache: ModelCache, storage: RemoteStorage, version: str, directory: Path
) -> None:
    fingerprint = fingerprint_in(storage, version)
    (Path(version) / "variables/index").write_bytes(b"new")
    with pytest.raises(Aborted, match=f"{version} has changed since it was found"):
        cache.acquire(version, fingerprint, silent)
    assert_same(acquire(cache, storage, version).files, version)


def test_a_version_that_changes_during_the_fetch_is_aborted_and_nothing_of_it_stays(
    cache: ModelCache, storage: RemoteStorage, version: str, directory: Path
) -> None:
    def change(name: str, position: int) -> None:
        if storage.all_read_bytes >= 20_000:
            os.utime(Path(version) / name, ns=(1, 1))

    storage.before_piece = change
    with pytest.raises(Aborted, match="has changed since it was listed"):
        acquire(cache, storage, version)
    assert not [path for path in directory.iterdir() if path.is_dir()]
    storage.before_piece = lambda name, position: None
    assert_same(acquire(cache, storage, version).files, version)


def test_a_version_that_is_gone_is_not_found(cache: ModelCache, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        cache.acquire(str(tmp_path / "nowhere"), "fingerprint", silent)


def test_a_file_that_is_not_what_the_manifest_says_is_named_and_alone_fetched_again(
    cache: ModelCache, storage: RemoteStorage, version: str
) -> None:
    with_manifest(version)
    storage.change_piece = lambda name, piece: piece[::-1] if name == "saved_model.pb" else piece
    with pytest.raises(DataLoss, match=r"saved_model\.pb: not what the manifest's checksum says") as refused:
        acquire(cache, storage, version)
    assert "variables" not in str(refused.value)
    storage.change_piece = lambda name, piece: piece
    storage.read_bytes.clear()
    assert_same(acquire(cache, storage, version).files, version)
    assert storage.read_bytes.keys() == {"saved_model.pb", MANIFEST_NAME}


def test_what_was_there_before_a_cut_is_checked_too(
    cache: ModelCache, storage: RemoteStorage, version: str, directory: Path
) -> None:
    with_manifest(version)

    def away(name: str, position: int) -> None:
        if storage.all_read_bytes >= 20_000:
            raise PermissionDenied("not now")

    storage.before_piece = away
    with pytest.raises(PermissionDenied):
        acquire(cache, storage, version)
    storage.before_piece = lambda name, position: None
    (partial,) = directory.glob("*/files/variables/variables.data*")
    partial.write_bytes(bytes(partial.stat().st_size))
    with pytest.raises(DataLoss, match=r"variables\.data"):
        acquire(cache, storage, version)
    assert_same(acquire(cache, storage, version).files, version)


def test_a_version_that_falls_short_of_its_manifest_is_refused(cache: ModelCache, storage: RemoteStorage, version: str) -> None:
    with_manifest(version)
    (Path(version) / "variables/index").unlink()
    with pytest.raises(FailedPrecondition, match="variables/index is missing"):
        acquire(cache, storage, version)


# -- room


@pytest.fixture
def versions(tmp_path: Path) -> list[str]:
    """Three of 10,000 bytes each."""
    return [store(tmp_path / "store" / str(number), {"data": 10_000}) for number in (1, 2, 3)]


@pytest.fixture
def small(directory: Path, storage: RemoteStorage) -> ModelCache:
    """Room for two of them."""
    return ModelCache(directory, storage, max_bytes=25_000, options=OPTIONS)


def test_the_longest_unused_version_makes_room(small: ModelCache, storage: RemoteStorage, versions: list[str]) -> None:
    one, two, three = versions
    first = acquire(small, storage, one)
    os.utime(first.files.parent / "complete", (1, 1))
    first.release()
    acquire(small, storage, two).release()
    third = acquire(small, storage, three)
    assert third.evicted_bytes == 10_000
    assert not first.files.exists()
    storage.read_bytes.clear()
    acquire(small, storage, two)
    assert storage.read_bytes == {}


def test_a_version_in_use_stays_even_if_it_is_the_oldest(
    small: ModelCache, storage: RemoteStorage, versions: list[str]
) -> None:
    one, two, three = versions
    first = acquire(small, storage, one)
    os.utime(first.files.parent / "complete", (1, 1))
    second = acquire(small, storage, two)
    second.release()
    acquire(small, storage, three)
    assert_same(first.files, one)
    assert not second.files.exists()


def test_a_version_that_does_not_fit_beside_those_in_use_is_refused_until_one_is_released(
    small: ModelCache, storage: RemoteStorage, versions: list[str]
) -> None:
    one, two, three = versions
    first, _second = acquire(small, storage, one), acquire(small, storage, two)
    with pytest.raises(ResourceExhausted, match=r"needs 10000 bytes .* may hold 25000 and has 20000 in use: .*cache_bytes"):
        acquire(small, storage, three)
    first.release()
    assert_same(acquire(small, storage, three).files, three)


def test_a_version_larger_than_the_cache_is_refused_before_anything_is_fetched_or_evicted(
    small: ModelCache, storage: RemoteStorage, versions: list[str], tmp_path: Path
) -> None:
    first = acquire(small, storage, versions[0])
    first.release()
    storage.read_bytes.clear()
    with pytest.raises(ResourceExhausted, match="raise --model_cache_bytes"):
        acquire(small, storage, store(tmp_path / "store" / "large", {"data": 30_000}))
    assert storage.read_bytes == {}
    assert_same(first.files, versions[0])


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a file system")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_is_told_in_numbers_and_heals_when_there_is_room(
    storage: RemoteStorage, tmp_path: Path, tiny_disk: Path
) -> None:
    cache = ModelCache(tiny_disk, storage, options=OPTIONS)
    path = store(tmp_path / "store" / "1", {"data": 600_000})
    filler = tiny_disk / "of somebody else"
    filler.write_bytes(bytes(700_000))
    with pytest.raises(ResourceExhausted, match=rf"{path} needs 600000 bytes on the disk of .*{tiny_disk}.* are free"):
        acquire(cache, storage, path)
    filler.unlink()
    assert_same(acquire(cache, storage, path).files, path)


def test_a_disk_that_fills_up_meanwhile_leaves_no_half_version_in_the_way(
    storage: RemoteStorage, tmp_path: Path, tiny_disk: Path
) -> None:
    cache = ModelCache(tiny_disk, storage, max_bytes=10 << 20, options=OPTIONS)
    path = store(tmp_path / "store" / "1", {f"data/{number}": 100 for number in range(280)})
    # Each file takes a whole page, which no sum of sizes tells of: the files do not fit although their bytes would.
    with pytest.raises(ResourceExhausted, match="on the disk of"):
        acquire(cache, storage, path)
    assert shutil.disk_usage(tiny_disk).used < 100_000
    small = store(tmp_path / "store" / "2", {"data": 500_000})
    assert_same(acquire(cache, storage, small).files, small)


def test_an_unlimited_cache_evicts_when_its_disk_is_full(storage: RemoteStorage, tmp_path: Path, tiny_disk: Path) -> None:
    cache = ModelCache(tiny_disk, storage, options=OPTIONS)
    paths = [store(tmp_path / "store" / str(number), {"data": 600_000}) for number in (1, 2)]
    first = acquire(cache, storage, paths[0])
    with pytest.raises(ResourceExhausted):
        acquire(cache, storage, paths[1])
    first.release()
    assert_same(acquire(cache, storage, paths[1]).files, paths[1])


# -- the directory


@pytest.mark.parametrize("mode", [0o777, 0o720])
def test_a_directory_that_others_may_write_to_is_refused(
    cache: ModelCache, storage: RemoteStorage, version: str, directory: Path, mode: int
) -> None:
    directory.mkdir()
    directory.chmod(mode)
    with pytest.raises(FailedPrecondition, match=f"--model_cache_dir={directory}: others than the server's user may write"):
        acquire(cache, storage, version)


def test_a_directory_of_another_user_is_refused(
    cache: ModelCache, storage: RemoteStorage, version: str, directory: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    directory.mkdir(mode=0o700)
    os.chown(directory, 12345, -1)
    with pytest.raises(FailedPrecondition, match="others than the server's user"):
        acquire(cache, storage, version)


def test_a_directory_that_cannot_be_made_is_refused(
    cache: ModelCache, storage: RemoteStorage, version: str, directory: Path
) -> None:
    directory.write_bytes(b"a file")
    with pytest.raises(FailedPrecondition, match=f"--model_cache_dir={directory} cannot be made"):
        acquire(cache, storage, version)


def test_what_else_lies_in_the_directory_is_left_alone(
    small: ModelCache, storage: RemoteStorage, versions: list[str], directory: Path
) -> None:
    directory.mkdir(mode=0o700)
    store(directory / "thesis", {"chapter": 100_000})
    for path in versions:
        acquire(small, storage, path).release()
    assert (directory / "thesis" / "chapter").stat().st_size == 100_000


def test_what_is_left_of_a_version_whose_remover_died_goes(
    small: ModelCache, storage: RemoteStorage, versions: list[str], directory: Path
) -> None:
    first = acquire(small, storage, versions[0])
    first.release()
    for note in ("complete", "journal"):
        (first.files.parent / note).unlink(missing_ok=True)
    acquire(small, storage, versions[1])
    assert not first.files.exists()


def before_a_crash(note: Path) -> None:
    """As a machine finds it that went down before the files had reached its disk."""
    first, *rest = note.read_text().splitlines()
    note.write_text("\n".join([json.dumps({**json.loads(first), "boot": "another"}), *rest, ""]))


@pytest.mark.parametrize("spoil", [before_a_crash, lambda note: note.write_bytes(b"")], ids=["another boot", "cut off"])
def test_what_may_not_have_reached_the_disk_before_a_crash_of_the_machine_is_fetched_again(
    cache: ModelCache, storage: RemoteStorage, version: str, spoil: Callable[[Path], None]
) -> None:
    first = acquire(cache, storage, version)
    first.release()
    for file in first.files.rglob("*"):
        if file.is_file():
            file.unlink()
    spoil(first.files.parent / "complete")
    assert_same(acquire(cache, storage, version).files, version)
