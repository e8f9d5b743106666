"""Certificate authorities for system tests, made with the openssl command.

    root = Authority(folder, "root")
    cert, key = root.issue("device-1")                       # files
    cert, key = root.issue("old", start="20240101000000Z", end="20240201000000Z")
    sub = root.authority("sub")                              # an intermediate
"""
import os
import subprocess

LEAF = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\n"
SERVER = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\nsubjectAltName=DNS:{}\n"
CA = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n"
EC = ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")


def openssl(*args):
    p = subprocess.run(["openssl", *map(str, args)], capture_output=True, text=True, timeout=60, check=False)
    if p.returncode != 0:
        raise AssertionError(f"openssl {args}: {p.stderr}")
    return p.stdout


class Authority:
    """With `cert` and `key` (files): one that exists; else a new self-signed one."""

    def __init__(self, folder, name, cert=None, key=None, subject=None):
        self.folder, self.name = os.path.join(folder, "ca-" + name), name
        os.makedirs(self.folder, exist_ok=True)
        self.cert, self.key = cert or self.path("ca.pem"), key or self.path("ca.key")
        open(self.path("index"), "a").close()
        with open(self.path("conf"), "w") as f:
            f.write(f"[ca]\ndefault_ca=d\n[d]\ndatabase={self.path('index')}\nnew_certs_dir={self.folder}\nrand_serial=yes\ndefault_md=sha256\n"
                    f"unique_subject=no\npolicy=p\ndefault_crl_days=1\ncrlnumber={self.path('crlnumber')}\n[p]\ncommonName=supplied\n")
        with open(self.path("crlnumber"), "w") as f:
            f.write("01\n")
        if cert is None:
            with open(self.path("ext"), "w") as f:
                f.write("[req]\ndistinguished_name=dn\n[dn]\n[e]\n" + CA)
            openssl("req", "-x509", "-config", self.path("ext"), "-extensions", "e", "-newkey", *EC, "-nodes", "-keyout", self.key, "-out", self.cert,
                    "-days", "30", "-subj", f"/CN={subject or name}")

    def path(self, name):
        return os.path.join(self.folder, name)

    def issue(self, name, ext=LEAF, key=EC, start=None, end=None, subject=None):
        """(certificate file, key file)."""
        base = self.path(name)
        openssl("req", "-new", "-newkey", *key, "-nodes", "-keyout", base + ".key", "-out", base + ".csr", "-subj", f"/CN={subject or name}")
        with open(base + ".ext", "w") as f:
            f.write(ext)
        dates = ["-startdate", start, "-enddate", end] if start else ["-days", "20"]
        openssl("ca", "-batch", "-notext", "-config", self.path("conf"), "-cert", self.cert, "-keyfile", self.key, "-in", base + ".csr", "-extfile",
                base + ".ext", *dates, "-out", base + ".pem")
        return base + ".pem", base + ".key"

    def authority(self, name, ext=CA, **kw):
        cert, key = self.issue(name, ext=ext, **kw)
        return Authority(self.folder, name, cert=cert, key=key)

    def crl(self, *revoked):
        """The file of a revocation list with these certificates."""
        for cert in revoked:
            openssl("ca", "-config", self.path("conf"), "-cert", self.cert, "-keyfile", self.key, "-revoke", cert)
        openssl("ca", "-config", self.path("conf"), "-cert", self.cert, "-keyfile", self.key, "-gencrl", "-out", self.path("crl.pem"))
        return self.path("crl.pem")


def chain(folder, name, *certs):
    """One file of several certificates, leaf first."""
    path = os.path.join(folder, name + "-chain.pem")
    with open(path, "w") as out:
        for cert in certs:
            with open(cert) as f:
                out.write(f.read())
    return path
