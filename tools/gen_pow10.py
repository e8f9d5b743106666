#!/usr/bin/env python3
"""Writes src/base/json_pow10.h: the first 128 bits of every power of ten a double may need.

    tools/gen_pow10.py > src/base/json_pow10.h
"""
FIRST, LAST = -342, 324


def top_bits(k):
    """10^k * 2^s with s such that the result has exactly 128 bits; cut for k >= 0, rounded up below."""
    if k >= 0:
        v = 10**k
        shift = v.bit_length() - 128
        return v >> shift if shift >= 0 else v << -shift
    d = 10**-k
    shift = 128 + d.bit_length()
    v = (1 << shift) // d
    return (v >> (v.bit_length() - 128)) + 1


def main():
    print("// Made by tools/gen_pow10.py: the first 128 bits of 10^k, for k from JSON_POW10_FIRST on. Rounded up for k below 0,")
    print("// exact from 0 to 55, cut above.")
    print("#ifndef BASE_JSON_POW10_H")
    print("#define BASE_JSON_POW10_H")
    print()
    print("#include <stdint.h>")
    print()
    print(f"#define JSON_POW10_FIRST (-{-FIRST})")
    print(f"#define JSON_POW10_LAST  {LAST}")
    print()
    print("// clang-format off")
    print("static const uint64_t json_pow10[JSON_POW10_LAST - JSON_POW10_FIRST + 1][2] = {")
    for k in range(FIRST, LAST + 1):
        v = top_bits(k)
        print(f"    {{0x{v >> 64:016x}, 0x{v & (1 << 64) - 1:016x}}}, // {k}")
    print("};")
    print("// clang-format on")
    print()
    print("#endif")


if __name__ == "__main__":
    main()
