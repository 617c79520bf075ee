"""check.py FOLDER - read what interop.c wrote with the packages safetensors and gguf, compare bit
for bit, and write the same tensors for interop.c to read."""
import json
import os
import sys

import gguf
import numpy as np
import safetensors
from safetensors import serialize_file

folder = sys.argv[1]
N, LONG, MOST = 10000, 65536, 4096
Q = gguf.GGMLQuantizationType
TYPES = [Q.F32, Q.F16, Q.BF16, Q.Q8_0, Q.Q4_0, Q.I8]


def at(name):
    return os.path.join(folder, name)


def pattern(i, n):
    return ((i * 31 + np.arange(n) * 7) % 251).astype(np.uint8).tobytes()


def st_tensors():
    for i in range(N + 2):
        name = 'layer.%d' % i if i < N else 'scalar' if i == N else 'x' * LONG
        dtype, size = [('F32', 4), ('F16', 2), ('BF16', 2), ('U8', 1)][i % 4]
        shape = [] if i == N else [i % 3, 2]
        yield i, name, dtype, shape, pattern(i, size * int(np.prod(shape, dtype=int)))


def check_safetensors(files, what):
    found = {}
    for file in files:
        with open(at(file), 'rb') as f:
            for name, info in safetensors.deserialize(f.read()):
                found[name] = info
    count = 0
    for _, name, dtype, shape, data in st_tensors():
        info = found.pop(name)
        assert (info['dtype'], info['shape']) == (dtype, shape), name[:60]
        assert bytes(info['data']) == data, name[:60]
        count += 1
    assert not found
    print('safetensors reads %s: %d tensors, bit for bit' % (what, count))


def write_safetensors():
    names = {'F32': 'float32', 'F16': 'float16', 'BF16': 'bfloat16', 'U8': 'uint8'}
    tensors, keep = {}, []
    for _, name, dtype, shape, data in st_tensors():
        if hasattr(safetensors, 'TensorSpec'):  # newer versions take a pointer
            keep.append(np.frombuffer(data or b'\0', dtype=np.uint8))
            tensors[name] = safetensors.TensorSpec(
                dtype=names[dtype], shape=shape, data_ptr=keep[-1].ctypes.data,
                data_len=len(data))
        else:
            tensors[name] = {'dtype': names[dtype], 'shape': shape, 'data': data}
    serialize_file(tensors, at('py.safetensors'), metadata={'format': 'np', '\u00e9"': '\u20ac\n'})


def numbers(i, n):
    # the numbers of interop.c: sin of the C library, rounded once
    import math
    return np.array([math.sin(k + i) for k in range(n)]).astype(np.float32)


def gguf_tensors():
    for i in range(N + 2):
        kind = Q.F32 if i == N else TYPES[i % len(TYPES)]
        name = 'blk.%d.w' % i if i < N else 'scalar' if i == N else 'x' * LONG
        shape = () if i == N else (2, MOST // 2) if i < len(TYPES) else (i % 3, 32)
        n = int(np.prod(shape, dtype=int))
        if kind == Q.I8:
            data = np.frombuffer(pattern(i, n), dtype=np.int8).reshape(shape)
        else:
            x = numbers(i, n).reshape(shape)
            data = gguf.quants.quantize(x, kind) if n else None
        yield i, name, kind, shape, data


def swapped(data, kind):
    """The bytes of a big-endian file."""
    if kind in (Q.Q8_0, Q.Q4_0):
        blocks = data.reshape(-1, gguf.GGML_QUANT_SIZES[kind][1]).copy()
        blocks[:, :2] = blocks[:, 1::-1]
        return blocks.tobytes()
    width = {Q.F32: 4, Q.F16: 2, Q.BF16: 2, Q.I8: 1}[kind]
    return data.reshape(-1).view(np.uint8).reshape(-1, width)[:, ::-1].tobytes()


def check_gguf(file, big):
    reader = gguf.GGUFReader(at(file))
    found = {t.name: t for t in reader.tensors}
    count = 0
    raw = np.memmap(at(file), mode='r')
    for _, name, kind, shape, data in gguf_tensors():
        t = found.pop(name)
        assert t.tensor_type == kind, name[:60]
        assert [int(d) for d in t.shape] == list(reversed(shape)), name[:60]
        if data is not None:
            want = swapped(data, kind) if big else data.tobytes()
            assert raw[t.data_offset:t.data_offset + t.n_bytes].tobytes() == want, name[:60]
        count += 1
    assert not found
    fields = {k: reader.get_field(k).contents() for k in
              ('general.architecture', 'a.u8', 'a.i64', 'a.f32', 'a.bool', 'a.floats', 'a.words')}
    assert fields == {'general.architecture': 'llama', 'a.u8': 200, 'a.i64': -5, 'a.f32': 0.25,
                      'a.bool': True, 'a.floats': [1.5, -2.0], 'a.words': ['a', '\u00e9']}, fields
    print('gguf reads %s: %d tensors, bit for bit' % (file, count))


def write_gguf(file, big):
    order = gguf.GGUFEndian.BIG if big else gguf.GGUFEndian.LITTLE
    writer = gguf.GGUFWriter(at(file), 'llama', endianess=order)
    writer.add_uint8('a.u8', 200)
    writer.add_array('a.words', ['a', '\u00e9'])
    blobs = []
    for _, name, kind, shape, data in gguf_tensors():
        if not shape:
            continue  # it cannot write one
        blob = b'' if data is None else swapped(data, kind) if big else data.tobytes()
        block, size = gguf.GGML_QUANT_SIZES[kind]
        row = (*shape[:-1], shape[-1] // block * size)  # of bytes
        writer.add_tensor_info(name, row,
                               np.dtype(np.uint8), len(blob), raw_dtype=kind)
        blobs.append(np.frombuffer(blob, dtype=np.uint8))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    # as write_tensors_to_file, which would swap bytes by itself
    out = writer.fout[0]
    writer.write_padding(out, out.tell())
    for blob in blobs:
        out.write(blob.tobytes())
        writer.write_padding(out, len(blob))
    writer.close()


check_safetensors(['c.safetensors'], 'c.safetensors')
with open(at('shards.safetensors.index.json')) as f:
    index = json.load(f)
files = sorted(set(index['weight_map'].values()))
check_safetensors(files, '%d shards' % len(files))
assert index['metadata']['total_size'] == sum(len(d) for *_, d in st_tensors())
check_gguf('c.gguf', False)
check_gguf('c_big.gguf', True)
write_safetensors()
write_gguf('py.gguf', False)
write_gguf('py_big.gguf', True)
