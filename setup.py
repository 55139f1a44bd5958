"""The native kernel, and what an editable installation looks like; everything else is in pyproject.toml."""

import gzip
import os
import shutil
import tarfile
import tomllib
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.editable_wheel import editable_wheel
from setuptools.command.sdist import sdist

ROOT = Path(__file__).resolve().parent
KERNEL = Path("crypto/kernel")
#: The package as one folder of links. `make types` checks it, and an editable installation points to it.
LINKED = Path(".editable")


def link() -> None:
    """Lay the folders of package-dir under one, as an installation has them: a link for each.

    A package with others below it is a folder of links to its files: those that it gets later need another call.
    """
    folders: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"]
    shutil.rmtree(ROOT / LINKED, ignore_errors=True)
    for package, folder in sorted(folders.items()):
        place, source = ROOT / LINKED / package.replace(".", "/"), ROOT / folder
        if any(other.startswith(package + ".") for other in folders):
            place.mkdir(parents=True)
            for file in filter(Path.is_file, source.iterdir()):
                (place / file.name).symlink_to(file)
        else:
            place.symlink_to(source)


class EditableWheel(editable_wheel):
    """An editable installation that type checkers and editors can follow, and that sees new files at once.

    Left alone, setuptools installs a finder for a layout like ours: code that type checkers do not run. Its strict
    mode links every file and so misses new ones. For packages under one folder it installs that folder's path.
    """

    def finalize_options(self) -> None:
        """Have the packages under one folder."""
        link()
        self.distribution.package_dir = {"": str(LINKED)}
        super().finalize_options()


class SourceDistribution(sdist):
    """A source distribution that is the same bytes whenever and wherever it is made: `make reproducible`.

    SOURCE_DATE_EPOCH of the environment is the date of everything in it, as in wheels. Without it, setuptools alone.
    """

    def make_archive(self, base_name, format, root_dir=None, base_dir=None, owner=None, group=None):
        """Pack the folder `base_dir`. Returns the archive's name."""
        date = os.environ.get("SOURCE_DATE_EPOCH")
        if date is None or format != "gztar":
            return super().make_archive(base_name, format, root_dir, base_dir, owner, group)

        def plain(member):
            member.mtime, member.uid, member.gid, member.uname, member.gname = int(date), 0, 0, "", ""
            return member

        name = f"{base_name}.tar.gz"
        with (
            Path(name).open("wb") as file,
            gzip.GzipFile("", "wb", fileobj=file, mtime=int(date)) as packed,
            tarfile.open(mode="w", fileobj=packed, format=tarfile.PAX_FORMAT) as archive,
        ):
            for path in (Path(base_dir), *sorted(Path(base_dir).rglob("*"))):
                archive.add(path, recursive=False, filter=plain)
        return name


#: Set for a wheel without the kernel, for systems and processors that none is built for: gmpy2 does its work.
PURE = os.environ.get("VEILMATCH_PURE") == "1"

setup(
    ext_modules=[]
    if PURE
    else [
        Extension(
            "veilmatch.crypto._kernel",
            sources=[str(KERNEL / name) for name in ("module.c", "ifma.c", "ifma4.c", "avx2.c", "portable.c")],
            depends=sorted(map(str, KERNEL.glob("*.h"))),
            # No debugging symbols: they name the folder in which they were made.
            extra_compile_args=["-std=c11", "-O3", "-g0"],
            py_limited_api=True,
            # Without a C compiler the installation goes on, and gmpy2 does the work.
            optional=True,
        )
    ],
    cmdclass={"editable_wheel": EditableWheel, "sdist": SourceDistribution},
    options={} if PURE else {"bdist_wheel": {"py_limited_api": "cp311"}},
)
