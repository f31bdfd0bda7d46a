"""Ways in which a file gets damaged, drawn at random: nothing damaged may be believed."""

import gzip
import io
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable

import numpy as np

Damage = Callable[[np.random.Generator, bytes], bytes]


def flip_bit(rng, contents):
    damaged = bytearray(contents)
    damaged[rng.integers(len(contents))] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def flip_near_the_end(rng, contents):
    """In the directory of a zip file, the last row of a table."""
    damaged = bytearray(contents)
    damaged[-1 - int(rng.integers(min(len(contents), 400)))] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def flip_near_the_start(rng, contents):
    damaged = bytearray(contents)
    damaged[int(rng.integers(min(len(contents), 120)))] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def overwrite(rng, contents):
    """A block of zeros, ones or noise."""
    start = int(rng.integers(len(contents)))
    length = int(rng.integers(1, 600))
    kind = rng.integers(3)
    noise = rng.integers(256, size=length, dtype=np.uint8).tobytes()
    block = [bytes(length), b"\xff" * length, noise][kind]
    return (contents[:start] + block + contents[start + length :])[: len(contents)]


def truncate(rng, contents):
    return contents[: int(rng.integers(len(contents)))]


def lose_a_part(rng, contents):
    start = int(rng.integers(len(contents)))
    return contents[:start] + contents[start + 1 + int(rng.integers(200)) :]


def repeat_a_part(rng, contents):
    start = int(rng.integers(len(contents)))
    stop = start + 1 + int(rng.integers(200))
    return contents[:stop] + contents[start:]


def another_file(rng, contents):
    stream = io.BytesIO()
    kind = rng.integers(9)
    if kind == 0:
        np.save(stream, np.ones(7))
    elif kind == 1:
        stream.write(gzip.compress(contents))
    elif kind == 2:
        stream.write(pickle.dumps({"weight": [1.0, 2.0]}))
    elif kind == 3:
        with tarfile.open(fileobj=stream, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("last"), io.BytesIO())
    elif kind == 4:
        stream.write(b"some text\n" * int(rng.integers(1, 50)))
    elif kind == 5:
        stream.write(rng.integers(256, size=500, dtype=np.uint8).tobytes())
    elif kind == 6:
        np.savez(stream, other=np.ones(3))
    elif kind == 7:
        np.save(stream, np.array([{"an": "object"}]), allow_pickle=True)
    else:
        stream.write(b"PK\x05\x06" + bytes(18))  # an empty archive
    return stream.getvalue()


def swap_members(rng, contents):
    """Two members of a zip file exchange their names."""
    members = _unzipped(contents)
    names = list(members)
    first, second = rng.choice(len(names), 2, replace=False)
    members[names[first]], members[names[second]] = members[names[second]], members[names[first]]
    return _zipped(members)


def change_a_member(rng, contents):
    """A member is lost, named anew, doubled, or replaced by another array of its type and shape."""
    members = _unzipped(contents)
    name = list(members)[rng.integers(len(members))]
    kind = rng.integers(4)
    if kind == 0:
        del members[name]
    elif kind == 1:
        members[name + "x"] = members.pop(name)
    elif kind == 2:
        members["arrays/more.npy"] = members[name]
    else:
        body = bytearray(members[name])
        body[-1 - int(rng.integers(min(len(body), 16)))] ^= 1
        members[name] = bytes(body)
    return _zipped(members)


def bomb(rng, contents):
    """A member that unpacks to far more than the file has."""
    members = _unzipped(contents)
    name = list(members)[rng.integers(len(members))]
    members[name] = npy_header("<f8", (2**22,)) + bytes(2**25)
    return _zipped(members, {name: zipfile.ZIP_DEFLATED})


def absurd_header(rng, contents):
    """An array that says it is huge, of objects, of negative size, nested, or no array at all."""
    members = _unzipped(contents)
    name = list(members)[rng.integers(len(members))]
    headers = [
        npy_header("<f8", (10**12,)),
        npy_header("<f8", (2**31, 2**31, 2**31)),
        npy_header("|O", (1,)) + pickle.dumps([print]),
        npy_header("<f8", (-1,)),
        npy_header("<f8", "(" * 200),
        npy_header("[('a', '<f8'), ('b', '|O')]", (1,)),
        b"\x93NUMPY\x09\x00" + struct.pack("<H", 60000),
        b"\x93NUMPY\x03\x00" + struct.pack("<I", 2**31 - 1) + b"{",
        b"",
    ]
    members[name] = headers[rng.integers(len(headers))]
    return _zipped(members)


ANY = (
    flip_bit, flip_near_the_end, flip_near_the_start, overwrite, truncate, lose_a_part,
    repeat_a_part, another_file,
)  # fmt: skip
OF_ARCHIVES = (swap_members, change_a_member, bomb, absurd_header)


def npy_header(descr, shape):
    descr = descr if descr.startswith("[") else repr(descr)
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def _unzipped(contents):
    with zipfile.ZipFile(io.BytesIO(contents)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _zipped(members, compression=None):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, body in members.items():
            archive.writestr(name, body, (compression or {}).get(name, zipfile.ZIP_STORED))
    return stream.getvalue()
