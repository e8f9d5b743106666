"""make install and make deb: what is where, and does it work from there?"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

import muster

BUILD = os.path.join(muster.ROOT, "build")


def run(*command, **kw):
    p = subprocess.run(command, capture_output=True, text=True, check=False, **kw)
    assert p.returncode == 0, f"{' '.join(command)}: exit {p.returncode}\n{p.stdout[-3000:]}{p.stderr[-3000:]}"
    return p.stdout


def check_tree(root, prefix, etc):
    """A tree as it would stand at `prefix`, found under `root`."""
    at = root + prefix
    for program in ("muster", "muster-agent"):
        assert re.search(r"\d+\.\d+\.\d+", run(f"{at}/bin/{program}", "--version")), program
    for page in ("man1/muster.1", "man8/muster-serve.8", "man8/muster-agent.8"):
        assert os.path.getsize(f"{at}/share/man/{page}") > 500, page
    for unit, program in (("muster", "muster"), ("muster-agent", "muster-agent")):
        with open(f"{at}/lib/systemd/system/{unit}.service", encoding="utf-8") as f:
            text = f.read()
        assert f"ExecStart={prefix}/bin/{program} " in text and f"{etc}/muster/" in text, text
        assert "@BINDIR@" not in text and "@SYSCONFDIR@" not in text, text
    run(f"{at}/bin/muster", "serve", "--check-config", "--config", f"{root}{etc}/muster/muster.yaml")


def check_units(at):
    if shutil.which("systemd-analyze"):
        units = [f"{at}/lib/systemd/system/{u}.service" for u in ("muster", "muster-agent")]
        run("systemd-analyze", "verify", "--man=no", *units)


def check_library(at, directory):
    """A program of somebody else builds against what was installed, shared and static, and runs."""
    libdir = next(os.path.dirname(os.path.join(base, f)) for base, _, files in os.walk(at) for f in files if f == "libmuster.a")
    source = os.path.join(muster.ROOT, "examples/device.c")
    for name, link in (("shared", ["-L", libdir, "-lmuster"]), ("static", [f"{libdir}/libmuster.a"])):
        out = os.path.join(directory, name)
        run("cc", "-std=c11", "-Wall", "-Werror", "-I", f"{at}/include", source, "-o", out, *link, "-lssl", "-lcrypto", "-lm")
        p = subprocess.run([out], capture_output=True, text=True, env={**os.environ, "LD_LIBRARY_PATH": libdir}, timeout=20, check=False)
        assert p.returncode in (1, 2) and "usage" in (p.stdout + p.stderr).lower(), (p.returncode, p.stdout, p.stderr)


def installed(directory):
    prefix = os.path.join(directory, "x")
    run("cmake", "--install", BUILD, "--prefix", prefix)
    check_tree("", prefix, prefix + "/etc")
    check_units(prefix)
    check_library(prefix, directory)
    with open(f"{prefix}/etc/muster/muster.yaml", "a", encoding="utf-8") as f:
        f.write("# mine\n")
    assert "Kept" in run("cmake", "--install", BUILD, "--prefix", prefix)
    with open(f"{prefix}/etc/muster/muster.yaml", encoding="utf-8") as f:
        assert f.read().endswith("# mine\n"), "an installation overwrote a changed configuration"


def packaged(directory):
    run("cpack", "-G", "DEB", "-B", directory, cwd=BUILD)
    deb = next(os.path.join(directory, f) for f in os.listdir(directory) if f.endswith(".deb"))
    root = os.path.join(directory, "deb")
    run("dpkg-deb", "-R", deb, root)
    assert sorted(os.listdir(root)) == ["DEBIAN", "etc", "usr"], os.listdir(root)
    check_tree(root, "/usr", "/etc")
    with open(f"{root}/DEBIAN/conffiles", encoding="utf-8") as f:
        assert f.read().split() == ["/etc/muster/muster.yaml"]
    depends = run("dpkg-deb", "-f", deb, "Depends")
    for library in ("libuv1", "libssl3", "libsqlite3-0", "libcurl4", "libjansson4", "libcbor0.8", "libyaml-0-2", "libhttp-parser2.9", "zlib1g"):
        assert library in depends, depends


def main():
    run("cmake", "--build", BUILD, "-j", "2", "--target", "installed")
    with tempfile.TemporaryDirectory(prefix="muster-install-") as directory:
        for step in (installed, packaged):
            step(directory)
            print(f"{step.__name__}: ok", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
