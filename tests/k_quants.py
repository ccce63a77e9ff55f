"""The block-wise kinds of GGUF that its package only reads, written as llama.cpp's reference code packs them.

Each block of 256 numbers holds small whole numbers L, and for each part of 16 or 32 of them a scale and (some kinds) a
minimum, which have a scale of their own in half precision. Source: `quantize_row_*_ref` in llama.cpp's ggml-quants.c.
"""

import numpy as np

BLOCK = 256
# kind: bits of L, numbers of a part, bits of a part's scale (and minimum), whether there are minima
KINDS = {
    "Q2_K": (2, 16, 4, True),
    "Q3_K": (3, 16, 6, False),
    "Q4_K": (4, 32, 6, True),
    "Q5_K": (5, 32, 6, True),
    "Q6_K": (6, 16, 8, False),
}


def quantized(array, kind):
    """Bytes `[..., bytes of a row]` of floats `[..., N]`, N a multiple of 256, and the values that they stand for."""
    bits, part, scale_bits, shifted = KINDS[kind]
    parts = array.reshape(-1, BLOCK // part, part).astype(np.float32)
    if shifted:  # value = d * scale * L - dmin * minimum, with L from 0
        low = np.minimum(parts.min(2), 0)
        steps, most = (parts.max(2) - low) / (2**bits - 1), 2**scale_bits - 1
        d, dmin = (_half(x.max(1) / most) for x in (steps, -low))
        scales, minima = (_whole(x / y[:, None], 0, most) for x, y in ((steps, d), (-low, dmin)))
        bottom, least = (dmin[:, None] * minima)[..., None], 0
    else:  # value = d * scale * L, with L around 0
        least, most = -(2 ** (bits - 1)), 2 ** (scale_bits - 1) - 1
        steps = np.abs(parts).max(2) / -least
        d = _half(steps.max(1) / most)
        scales, bottom = _whole(steps / d[:, None], 0, most), np.float32(0)
        # signed scales are part of the format
        flip = np.arange(scales.shape[1]) % 3 == 1
        scales = np.where(flip, -scales, scales)
    wide = (d[:, None] * scales)[..., None]
    levels = _whole((parts + bottom) / np.where(wide == 0, 1, wide), least, least + 2**bits - 1)
    values = wide * levels.astype(np.float32) - bottom
    L = (levels - least).reshape(-1, BLOCK).astype(np.uint8)
    if shifted:
        blocks = [_PACK[kind](*row) for row in zip(L, scales, minima, d, dmin, strict=True)]
    else:
        blocks = [_PACK[kind](*row) for row in zip(L, scales, d, strict=True)]
    rows = np.frombuffer(b"".join(blocks), np.uint8).reshape(*array.shape[:-1], -1)
    return rows, values.reshape(array.shape).astype(np.float32)


def _half(x):
    return x.astype(np.float16).astype(np.float32)


def _whole(x, low, high):
    return np.clip(np.round(x), low, high).astype(np.int64)


def _bytes(x):
    return np.float16(x).tobytes()


def _pack_two_bits(L):
    q = bytearray()
    for j in range(0, BLOCK, 128):
        for l in range(32):
            q.append(L[j + l] | L[j + l + 32] << 2 | L[j + l + 64] << 4 | L[j + l + 96] << 6)
    return bytes(q)


def _pack_scales_and_minima(scales, minima):
    packed = [0] * 12
    for j, (s, m) in enumerate(zip(map(int, scales), map(int, minima), strict=True)):
        if j < 4:
            packed[j], packed[j + 4] = s, m
        else:
            packed[j + 4] = (s & 0xF) | (m & 0xF) << 4
            packed[j - 4] |= (s >> 4) << 6
            packed[j] |= (m >> 4) << 6
    return bytes(packed)


def _q2(L, scales, minima, d, dmin):
    return (
        bytes(int(s) | int(m) << 4 for s, m in zip(scales, minima, strict=True))
        + _pack_two_bits([int(x) for x in L])
        + _bytes(d)
        + _bytes(dmin)
    )


def _q3(L, scales, d):
    L, mask = [int(x) for x in L], [0] * 32
    for j in range(BLOCK):
        if L[j] > 3:
            mask[j % 32] |= 1 << j // 32
            L[j] -= 4
    packed = [0] * 12
    for j, s in enumerate(int(s) + 32 for s in scales):
        packed[j % 8] |= (s & 0xF) << (0 if j < 8 else 4)
        packed[j % 4 + 8] |= (s >> 4) << 2 * (j // 4)
    return bytes(mask) + _pack_two_bits(L) + bytes(packed) + _bytes(d)


def _low_bits(L):
    return bytes(L[j + l] & 0xF | (L[j + l + 32] & 0xF) << 4 for j in range(0, BLOCK, 64) for l in range(32))


def _q4(L, scales, minima, d, dmin):
    return _bytes(d) + _bytes(dmin) + _pack_scales_and_minima(scales, minima) + _low_bits([int(x) for x in L])


def _q5(L, scales, minima, d, dmin):
    L, high = [int(x) for x in L], [0] * 32
    for j in range(BLOCK):
        high[j % 32] |= (L[j] >> 4) << j // 32
    return _bytes(d) + _bytes(dmin) + _pack_scales_and_minima(scales, minima) + bytes(high) + _low_bits(L)


def _q6(L, scales, d):
    L, low, high = [int(x) for x in L], [], []
    for j in range(0, BLOCK, 128):
        a, b, c, e = (L[j + 32 * i : j + 32 * i + 32] for i in range(4))
        low += [x & 0xF | (y & 0xF) << 4 for x, y in zip(a + b, c + e, strict=True)]
        high += [w >> 4 | x >> 4 << 2 | y >> 4 << 4 | z >> 4 << 6 for w, x, y, z in zip(a, b, c, e, strict=True)]
    return bytes(low) + bytes(high) + np.asarray(scales, np.int8).tobytes() + _bytes(d)


_PACK = {"Q2_K": _q2, "Q3_K": _q3, "Q4_K": _q4, "Q5_K": _q5, "Q6_K": _q6}
