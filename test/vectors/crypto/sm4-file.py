#!/usr/bin/env python3
"""Second implementation of the encrypted file format (common/crypto/sm4-format.ts), written from its description.

Prints the known answers of sm4-file.json. Needs the package `cryptography` and an OpenSSL with SM3; the tests read the
JSON and need neither. Every chunk builds its own counter blocks, so that a counter that restarts or drifts shows.
"""
import hashlib
import hmac
import json
import struct

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

MIB = 1 << 20


def sm3(data):
    return hashlib.new("sm3", data).digest()


def field(data):
    return struct.pack(">I", len(data)) + data


def tlv(domain, *fields):
    return field(b"EMRT1/" + domain.encode()) + b"".join(field(f) for f in fields)


def kdf(z, length):
    blocks = (sm3(z + struct.pack(">I", ct)) for ct in range(1, (length + 31) // 32 + 1))
    return b"".join(blocks)[:length]


def ctr(key, iv, first_block, data):
    count = (len(data) + 15) // 16
    counters = b"".join(iv + struct.pack(">I", first_block + i) for i in range(count))
    ecb = Cipher(algorithms.SM4(key), modes.ECB()).encryptor()
    stream = (ecb.update(counters) + ecb.finalize())[: len(data)]
    return (int.from_bytes(data, "big") ^ int.from_bytes(stream, "big")).to_bytes(len(data), "big")


def seal(k, iv, record_id, version, section_class, frame):
    dk = kdf(tlv("etm", k, iv), 48)
    chunks = [frame[at : at + MIB] for at in range(0, len(frame), MIB)] or [b""]
    blob = [iv]
    for i, chunk in enumerate(chunks):
        ct = ctr(dk[:16], iv, i * 65536, chunk)
        last = bytes([1 if i == len(chunks) - 1 else 0])
        covered = tlv("chunk", record_id, struct.pack(">I", version), section_class, iv, struct.pack(">I", i), last, ct)
        blob += [ct, hmac.new(dk[16:], covered, "sm3").digest()]
    return b"".join(blob)


def padme(length):
    if length <= 4096:
        return 4096
    e = length.bit_length() - 1
    mask = (1 << (e - e.bit_length())) - 1
    return (length + mask) & ~mask


def frame_of(name, content_type, content):
    used = tlv("file", name.encode(), content_type.encode(), struct.pack(">Q", len(content))) + content
    return used + bytes(padme(len(used)) - len(used))


def pattern(length):
    return bytes((i * 31 + (i >> 8) * 17 + (i >> 16) * 5) & 255 for i in range(length))


def main():
    k = bytes(range(32))
    iv = bytes(range(100, 112))
    record_id = sm3(b"record")
    args = (k, iv, record_id, 7, b"general")
    sizes = [0, 1, 16, MIB - 1, MIB, MIB + 1, 2 * MIB + 12345]
    chunks = []
    for size in sizes:
        blob = seal(*args, pattern(size))
        entry = {"frameBytes": size, "blobBytes": len(blob), "dataDigest": sm3(blob).hex(), "lastTag": blob[-32:].hex()}
        chunks.append(entry)
    files = []
    for name, content_type, size in [("", "", 0), ("bundle.json", "application/fhir+json", 5000), ("影像.dcm", "application/dicom", MIB)]:
        blob = seal(*args, frame_of(name, content_type, pattern(size)))
        files.append(
            {"name": name, "contentType": content_type, "sizeBytes": size, "blobBytes": len(blob), "dataDigest": sm3(blob).hex()}
        )
    check = sm3(tlv("keycheck", record_id, struct.pack(">I", 7), k))[:16]
    known = {
        "source": "test/vectors/crypto/sm4-file.py; content byte i = i*31 + (i>>8)*17 + (i>>16)*5 mod 256",
        "key": k.hex(),
        "iv": iv.hex(),
        "recordId": record_id.hex(),
        "version": 7,
        "sectionClass": "general",
        "keyCheck": check.hex(),
        "smallBlob": seal(*args, pattern(16)).hex(),
        "padme": [[n, padme(n)] for n in [0, 1, 4096, 4097, 5000, 9999, 10**6, 2**30 - 1, 2**30, 2**30 + 1, 2**36]],
        "chunks": chunks,
        "files": files,
    }
    print(json.dumps(known, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
