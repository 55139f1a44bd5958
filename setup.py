"""The native kernel; everything else about the distribution is in pyproject.toml."""

from pathlib import Path

from setuptools import Extension, setup

KERNEL = Path("crypto/kernel")

setup(
    ext_modules=[
        Extension(
            "veilmatch.crypto._kernel",
            sources=[str(KERNEL / name) for name in ("module.c", "ifma.c", "avx2.c")],
            depends=sorted(map(str, KERNEL.glob("*.h"))),
            extra_compile_args=["-std=c11", "-O3"],
            py_limited_api=True,
            # Without a C compiler the installation goes on, and gmpy2 does the work.
            optional=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
