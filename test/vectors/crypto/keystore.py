#!/usr/bin/env python3
"""Second implementation of the keystore file (common/native/keystore.ts), written from its description.

Prints keystore.json. Needs the package `cryptography` and an OpenSSL with SM3; the tests need neither.
"""
import hashlib
import hmac
import json
import struct

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

PRIVATE = "3945208f7b2144b13f36e38ac6d39f95889393692860b51a42fb81ef4df7c5b8"
PUBLIC = (
    "09f9df311e5421a150dd7d161e4bc5c672179fad1833fc076bb08ff356f35020"
    "ccea490ce26775a52dc6ea718cc1aa600aed05fbf35e084a6632f6072da9ad13"
)


def field(data):
    return struct.pack(">I", len(data)) + data


def u32(value):
    return struct.pack(">I", value)


def main():
    passphrase = "correct horse 电池"
    n, r, p = 2**17, 8, 1
    salt, iv = bytes(range(32)), bytes(range(50, 66))
    public = bytes.fromhex(PUBLIC)
    address = hashlib.new("sm3", public).digest()[12:]
    dk = hashlib.scrypt(passphrase.encode(), salt=salt, n=n, r=r, p=p, maxmem=2**28, dklen=48)
    cipher = Cipher(algorithms.SM4(dk[:16]), modes.CTR(iv)).encryptor()
    ciphertext = cipher.update(bytes.fromhex(PRIVATE)) + cipher.finalize()
    parts = [b"EMRT1/keystore", u32(1), b"sm2-key", address, public, u32(n), u32(r), u32(p), salt, iv, ciphertext]
    tag = hmac.new(dk[16:], b"".join(field(part) for part in parts), "sm3").digest()
    keystore = {
        "version": 1,
        "kind": "sm2-key",
        "address": "0x" + address.hex(),
        "publicKey": "0x" + PUBLIC,
        "kdf": {"name": "scrypt", "n": n, "r": r, "p": p, "salt": "0x" + salt.hex()},
        "cipher": {"name": "sm4-ctr-hmac-sm3", "iv": "0x" + iv.hex()},
        "ciphertext": "0x" + ciphertext.hex(),
        "tag": "0x" + tag.hex(),
    }
    known = {"source": "test/vectors/crypto/keystore.py", "passphrase": passphrase, "secret": PRIVATE, "keystore": keystore}
    print(json.dumps(known, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
