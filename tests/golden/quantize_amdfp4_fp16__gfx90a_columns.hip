// quantize_amdfp4_fp16__gfx90a_columns
//
// x [slabs, rows, columns], fp16, to amdfp4 in blocks of 16 along the rows, or of 16 x 16. Bit for bit what
// docs/quantization.md defines. Two codes of a byte are neighbours along the rows, or along the columns if asked for.
//
// A wave has 16 rows, a block, of 128 columns; a work-item has eight columns of four rows. Lanes 16 apart have
// the next rows. Each element is read once. What lies past the end of a slab or row counts as zero, is aimed past the end
// of the buffer and so neither read nor written.
#define __global__ __attribute__((global))
#define __device__ __attribute__((device))
#define __shared__ __attribute__((shared))
#define DEVICE static __device__ __attribute__((always_inline))

typedef unsigned u32;
typedef unsigned long long u64;
typedef u32 u32x2 __attribute__((ext_vector_type(2)));
typedef u32 u32x4 __attribute__((ext_vector_type(4)));
typedef short i16x2 __attribute__((ext_vector_type(2)));
typedef unsigned short u16x2 __attribute__((ext_vector_type(2)));
typedef short i16x4 __attribute__((ext_vector_type(4)));
typedef float f32x2 __attribute__((ext_vector_type(2)));
typedef float f32x4 __attribute__((ext_vector_type(4)));
typedef float f32x16 __attribute__((ext_vector_type(16)));
typedef _Float16 f16x2 __attribute__((ext_vector_type(2)));
typedef _Float16 f16x4 __attribute__((ext_vector_type(4)));

template <typename To, typename From> DEVICE To bits(From x) { return __builtin_bit_cast(To, x); }

// The compiler moves no instruction across.
DEVICE void keep_order() { __builtin_amdgcn_sched_barrier(0); }

typedef __amdgpu_buffer_rsrc_t Resource;

// Added to nothing, only chosen: an offset past every buffer whose extent is below 2 GiB.
constexpr u32 OUT_OF_RANGE = 0x80000000u;

// The four dwords of a descriptor as the compiler's own resource type.
DEVICE Resource resource(u32x4 words) {
  const u32 low = words[0], high = words[1] & 0xffffu, bytes = words[2], flags = words[3];
  return __builtin_amdgcn_make_buffer_rsrc((void*)((u64)high << 32 | low), 0, bytes, flags);
}

// Offsets are whole in the VGPR: with soffset the range check would subtract it from num_records.
DEVICE u32x4 load_b128(Resource r, u32 offset) { return __builtin_amdgcn_raw_buffer_load_b128(r, offset, 0, 0); }
DEVICE u32x2 load_b64(Resource r, u32 offset) { return __builtin_amdgcn_raw_buffer_load_b64(r, offset, 0, 0); }
DEVICE u32 load_b32(Resource r, u32 offset) { return __builtin_amdgcn_raw_buffer_load_b32(r, offset, 0, 0); }
DEVICE u32 load_b16(Resource r, u32 offset) { return __builtin_amdgcn_raw_buffer_load_b16(r, offset, 0, 0); }
DEVICE u32 load_b8(Resource r, u32 offset) { return __builtin_amdgcn_raw_buffer_load_b8(r, offset, 0, 0); }
DEVICE void store_b128(u32x4 x, Resource r, u32 offset) { __builtin_amdgcn_raw_buffer_store_b128(x, r, offset, 0, 0); }
DEVICE void store_b64(u32x2 x, Resource r, u32 offset) { __builtin_amdgcn_raw_buffer_store_b64(x, r, offset, 0, 0); }
DEVICE void store_b16(u32 x, Resource r, u32 offset) {
  __builtin_amdgcn_raw_buffer_store_b16((unsigned short)x, r, offset, 0, 0);
}

// Elements `at` to `at` + 7, of which `left` are there: the others are 0. WHOLE: rows are multiples of eight, so that
// either all or none are there.
template <bool WHOLE> DEVICE void load_eight(Resource x, u32 at, u32 left, u32 (&w)[4]) {
  if (WHOLE) {
    const u32x4 loaded = load_b128(x, left ? at * 2 : OUT_OF_RANGE);
#pragma unroll
    for (int i = 0; i < 4; ++i) w[i] = loaded[i];
  } else {
    u32 half[8];
#pragma unroll
    for (u32 e = 0; e < 8; ++e) half[e] = load_b16(x, e < left ? (at + e) * 2 : OUT_OF_RANGE);
#pragma unroll
    for (int i = 0; i < 4; ++i) w[i] = half[2 * i] | half[2 * i + 1] << 16;
  }
}

DEVICE void store_b32(u32 x, Resource r, u32 offset) { __builtin_amdgcn_raw_buffer_store_b32(x, r, offset, 0, 0); }
DEVICE void store_b8(u32 x, Resource r, u32 offset) {
  __builtin_amdgcn_raw_buffer_store_b8((unsigned char)x, r, offset, 0, 0);
}

// Bytes of x from the lowest on, to `at` and what follows; `left` of them are there.
template <bool WHOLE> DEVICE void store_bytes(u32 x, Resource r, u32 at, u32 left) {
  if (WHOLE) {
    store_b32(x, r, left ? at : OUT_OF_RANGE);
  } else {
    asm("" : "+v"(left));  // compared anew: what the loads found out is more scalar registers than there are
#pragma unroll
    for (u32 i = 0; i < 4; ++i) store_b8(x >> 8 * i, r, i < left ? at + i : OUT_OF_RANGE);
  }
}
template <bool WHOLE> DEVICE void store_bytes(u32x2 x, Resource r, u32 at, u32 left) {
  if (WHOLE) {
    store_b64(x, r, left ? at : OUT_OF_RANGE);
  } else {
    store_bytes<false>(x[0], r, at, left);
    store_bytes<false>(x[1], r, at + 4, left > 4 ? left - 4 : 0);
  }
}

DEVICE float wide(u32 half) { return (float)bits<_Float16>((unsigned short)half); }
DEVICE float wide(const u32 (&w)[4], int e) { return wide(e % 2 ? w[e / 2] >> 16 : w[e / 2] & 0xffffu); }

constexpr u32 SIGNS = 0x80008000u, INFINITE = 31744;  // two of the type, one of it

// Magnitudes are compared as integers: NaN is above Inf, and Inf above the rest.
DEVICE u32 larger(u32 a, u32 b) { return bits<u32>(__builtin_elementwise_max(bits<u16x2>(a), bits<u16x2>(b))); }
DEVICE u32 larger_half(u32 a) { return a >> 16 > (a & 0xffffu) ? a >> 16 : a & 0xffffu; }

// Of the lane whose number differs in one bit.
template <int BIT> DEVICE u32 other_lane(u32 x) {
  if (BIT == 1) return __builtin_amdgcn_update_dpp(0, x, 0xb1, 0xf, 0xf, true);  // quad_perm [1, 0, 3, 2]
  if (BIT == 2) return __builtin_amdgcn_update_dpp(0, x, 0x4e, 0xf, 0xf, true);  // quad_perm [2, 3, 0, 1]
  return __builtin_amdgcn_ds_bpermute((__builtin_amdgcn_workitem_id_x() ^ BIT) % 64 * 4, x);
}

struct Seed {
  u32 low, high;
  u64 offset;
};

// Four words of the counter `offset` + n, whose upper two words are 0.
DEVICE u32x4 philox(const Seed& seed, u32 n) {
  const u64 counter = seed.offset + n;
  u32 c0 = (u32)counter, c1 = counter >> 32, c2 = 0, c3 = 0, k0 = seed.low, k1 = seed.high;
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const u64 first = (u64)0xD2511F53u * c0, second = (u64)0xCD9E8D57u * c2;
    c0 = (u32)(second >> 32) ^ c1 ^ k0;
    c1 = (u32)second;
    c2 = (u32)(first >> 32) ^ c3 ^ k1;
    c3 = (u32)first;
    // Two rounds are not to become vectors: clang 19 then makes products of 32 bits of these.
    asm("" : "+v"(c0), "+v"(c2));
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return u32x4{c0, c1, c2, c3};
}

// The words of elements i to i + 7. ALIGNED: i is a multiple of four.
template <bool ALIGNED> DEVICE void words_of(const Seed& seed, u32 i, u32 (&r)[8]) {
  u32 w[12];
#pragma unroll
  for (int n = 0; n < (ALIGNED ? 2 : 3); ++n) {
    const u32x4 four = philox(seed, i / 4 + n);
#pragma unroll
    for (int e = 0; e < 4; ++e) w[n * 4 + e] = four[e];
  }
#pragma unroll
  for (int e = 0; e < 8; ++e) {
    if (ALIGNED) {
      r[e] = w[e];
    } else {
      const u32 w0 = w[e], w1 = w[e + 1], w2 = w[e + 2], w3 = w[e + 3];  // numbers: a choice of places would be memory
      const u32 even = i & 1 ? w1 : w0, odd = i & 1 ? w3 : w2;
      r[e] = i & 2 ? odd : even;
    }
  }
}

// E2M1's numbers are 1/2, 1 or 2 apart: below 2, from 2 and from 4 on. The gap at v is half of 2^e, the power of two of v,
// but for e below 0.
DEVICE u32 power(float v) {
  const u32 exponent = bits<u32>(v) & 0x7f800000u;
  return exponent > 0x3f800000u ? exponent : 0x3f800000u;
}

// The magnitude nearest to v, from 0 to 6: floats from 2^(e + 22) on are a gap apart, so that the sum is rounded as the code
// is to be. It has v in gaps, n, below and 149 + e in the exponent; the code is n + 2 e.
DEVICE u32 nearest(float v) {
  const u32 sum = bits<u32>(v + bits<float>(power(v) + (22u << 23)));
  return (sum + (sum >> 22) - 2u) & 7u;
}

// The magnitude below v, or with the probability of what v is above it, in gaps, the next.
DEVICE u32 at_random(float v, u32 word) {
  const u32 exponent = power(v);
  const float gaps = v * bits<float>((255u << 23) - exponent);  // 2^(1 - e)
  const u32 n = (u32)gaps;
  const float above = gaps - (float)n;
  return n + ((exponent >> 22) - 254u) + (word < (u32)(above * 0x1p32f));
}

// Code of a quotient from 0 on, or NaN, which is a large one.
template <bool RANDOM> DEVICE u32 code_of(float v, u32 word) {
  const float magnitude = __builtin_fminf(v, 6.0f);
  return RANDOM ? at_random(magnitude, word) : nearest(magnitude);
}

// The outer scale: as it is given, or of a tensor whose largest finite magnitude is given.
DEVICE float outer_scale(Resource given, u32 options) {
  const float x = bits<float>(load_b32(given, 0));
  const float computed = x / 688128.0f;
  return options & 2 ? (computed > 1e-30f ? computed : 1e-30f) : x;
}

// byte: as it is stored. Quotients are those of x * factor and step; inverse: 1 / step, rounded.
// vanishes: inner * outer is 0, and 0 / 0 is no number.
struct Scale {
  u32 byte;
  float step, inverse, factor;
  bool vanishes;
};

// What quotients of p need, see there. p is below 2^126: it is a sixth of the largest magnitude, or the smallest inner scale
// times the outer one. By p = 0 what is not 0 is 6 at least, by this step, too.
DEVICE Scale divisor(u32 byte, float p) {
  const bool vanishes = p == 0.0f;
  const float factor = p < 0x1p-60f ? 0x1p90f : 1.0f, step = vanishes ? 0x1p-60f : p * factor;
  return {byte, step, 1.0f / step, factor, vanishes};
}

// x / p of x from 0 on, correctly rounded: a first quotient and two corrections by its remainder. The second remainder is
// exact, the quotient before it is off by a unit at most and the reciprocal is rounded correctly: then so is the last one
// (Markstein 1990). x and p are first brought to where remainders of quotients from 2^-34 on are float32 numbers; smaller
// ones all become 0. Where the quotient leaves float32 it may be NaN here: that counts as the largest.
DEVICE f32x2 quotients(f32x2 x, f32x2 step, f32x2 inverse, f32x2 factor) {
  const f32x2 a = x * factor, first = a * inverse;
  const f32x2 q = __builtin_elementwise_fma(__builtin_elementwise_fma(-step, first, a), inverse, first);
  return __builtin_elementwise_fma(__builtin_elementwise_fma(-step, q, a), inverse, q);
}
DEVICE f32x2 quotients(f32x2 x, const Scale& s, const Scale& t) {
  return quotients(x, f32x2{s.step, t.step}, f32x2{s.inverse, t.inverse}, f32x2{s.factor, t.factor});
}
// largest: of the block, finite or not.
DEVICE Scale scale_of(float largest, float outer) {
  constexpr float SMALLEST = 0x1p-17f, LARGEST = 114688.0f;
  float t = largest / outer / 6.0f;
  t = t > SMALLEST ? t : SMALLEST;  // NaN, too
  t = t < LARGEST ? t : LARGEST;
  const u32 normal = bits<u32>(t) + 0x7ffffu + (bits<u32>(t) >> 20 & 1u);
  const float small = __builtin_rintf(t * 0x1p17f);
  const bool subnormal = t < 8 * SMALLEST;
  const float inner = subnormal ? small * SMALLEST : bits<float>(normal & 0xfff00000u);
  u32 byte = subnormal ? (u32)small : (normal >> 20) - 896u;
  return divisor(byte, inner * outer);
}
// Of a block whose largest magnitude is `half`, of the type of x. With a NaN or Inf in it the scale is NaN.
DEVICE Scale scale_of(u32 half, float outer, bool& broken) {
  Scale s = scale_of(wide(half), outer);
  broken = half >= INFINITE;
  s.byte = broken ? 255u : s.byte;
  return s;
}

// One scale for all, or one for each. `i`: place of the first in the tensor, for random words.
template <bool RANDOM, bool WHOLE, int SCALES>
DEVICE u32 codes_of(const u32 (&w)[4], const Scale (&scales)[SCALES], const Seed& seed, u32 i) {
  u32 r[8] = {}, codes = 0, vanishing = 0;
  if (RANDOM) words_of<WHOLE>(seed, i, r);
#pragma unroll
  for (int e = 0; e < 8; e += 2) {
    const Scale &first = scales[e % SCALES], &second = scales[(e + 1) % SCALES];
    u32 two = w[e / 2];
    asm("" : "+v"(two));  // magnitudes are not kept from where the largest was looked for
    const u32 signs = (two >> 12 & 8u) | (two >> 24 & 0x80u);
    two &= ~SIGNS;
    const f32x2 v = quotients(f32x2{wide(two & 0xffffu), wide(two >> 16)}, first, second);
    codes |= (signs | code_of<RANDOM>(v[0], r[e]) | code_of<RANDOM>(v[1], r[e + 1]) << 4) << 4 * e;
    vanishing |= ((first.vanishes ? 15u : 0u) | (second.vanishes ? 240u : 0u)) << 4 * e;
  }
  // 0 / 0 is the code 0 without a sign.
  if (__builtin_amdgcn_ballot_w64(vanishing != 0)) codes &= ~(vanishing & 0x88888888u) | codes << 1 | codes << 2 | codes << 3;
  return codes;
}


constexpr u32 BLOCK = 16, ACROSS = 16, ROWS = 4;

struct Tensor {
  Resource x, codes, scales;
  u32 rows, columns;
  float outer;
  u32 options;
};

// block: number among those of the slabs along the rows. row, column: the work-item's first.
struct Place {
  u32 slab, block, row, column;
};

DEVICE u32 largest_of_rows(u32 x) {
  x = larger(x, other_lane<16>(x));
  x = larger(x, other_lane<32>(x));
  return x;
}

// One scale for each of eight columns, or one for all.
template <bool WHOLE, bool SQUARE>
DEVICE u32 scales_of(const Tensor& t, const Place& p, const u32 (&w)[ROWS][4], Scale (&s)[SQUARE ? 1 : 8]) {
  u32 largest[4], kept = ~0u, bytes[2] = {};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    largest[i] = w[0][i] & ~SIGNS;
#pragma unroll
    for (int j = 1; j < ROWS; ++j) largest[i] = larger(largest[i], w[j][i] & ~SIGNS);
  }
  bool broken;
  const bool writes = p.row % BLOCK == 0;
  if (SQUARE) {
    u32 one = larger(larger(largest[0], largest[1]), larger(largest[2], largest[3]));
    one = larger(one, other_lane<1>(one));
    s[0] = scale_of(larger_half(largest_of_rows(one)), t.outer, broken);
    const bool first = writes && p.column % BLOCK == 0 && p.column < t.columns;
    const u32 at = p.block * ((t.columns + BLOCK - 1) / BLOCK) + p.column / BLOCK;
    store_b8(s[0].byte, t.scales, first ? at : OUT_OF_RANGE);
    return broken ? 0u : kept;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) largest[i] = largest_of_rows(largest[i]);
#pragma unroll
  for (int e = 0; e < 8; ++e) {
    s[SQUARE ? 0 : e] = scale_of(e % 2 ? largest[e / 2] >> 16 : largest[e / 2] & 0xffffu, t.outer, broken);
    bytes[e / 4] |= s[SQUARE ? 0 : e].byte << e % 4 * 8;
    kept = broken ? kept & ~(15u << 4 * e) : kept;
  }
  const u32 left = writes && p.column < t.columns ? t.columns - p.column : 0;
  store_bytes<WHOLE>(u32x2{bytes[0], bytes[1]}, t.scales, p.block * t.columns + p.column, left);
  return kept;
}

// Bytes of eight columns: the codes of one row in the lower halves, those of the next in the upper.
DEVICE u32x2 interleaved(u32 upper, u32 lower) {
  const u32 even = (upper & 0x0f0f0f0fu) | (lower & 0x0f0f0f0fu) << 4;
  const u32 odd = (upper >> 4 & 0x0f0f0f0fu) | (lower & 0xf0f0f0f0u);
  return u32x2{__builtin_amdgcn_perm(odd, even, 0x05010400u), __builtin_amdgcn_perm(odd, even, 0x07030602u)};
}

template <bool RANDOM, bool WHOLE, bool SQUARE> DEVICE void convert(const Tensor& t, const Place& p, const Seed& seed) {
  const u32 across = p.column < t.columns ? t.columns - p.column : 0;
  u32 w[ROWS][4], left[ROWS], at[ROWS], made[ROWS];
#pragma unroll
  for (u32 j = 0; j < ROWS; ++j) {
    left[j] = p.row + j < t.rows ? across : 0;
    at[j] = (p.slab * t.rows + p.row + j) * t.columns + p.column;
    load_eight<WHOLE>(t.x, at[j], left[j], w[j]);
  }
  Scale s[SQUARE ? 1 : 8];
  const u32 kept = scales_of<WHOLE, SQUARE>(t, p, w, s);
#pragma unroll
  for (int j = 0; j < ROWS; ++j) {
    made[j] = codes_of<RANDOM, WHOLE>(w[j], s, seed, at[j]) & kept;
    keep_order();  // one row after the other: together they are more registers than there are
  }
  if (SQUARE && t.options & 8) {
#pragma unroll
    for (int j = 0; j < ROWS; ++j) store_bytes<WHOLE>(made[j], t.codes, at[j] / 2, left[j] / 2);
  } else {
#pragma unroll
    for (int j = 0; j < ROWS; j += 2) {
      const u32 to = (p.slab * t.rows + p.row + j) / 2 * t.columns + p.column;
      store_bytes<WHOLE>(interleaved(made[j], made[j + 1]), t.codes, to, left[j]);
    }
  }
}

template <bool RANDOM, bool WHOLE> DEVICE void convert(const Tensor& t, const Place& p, const Seed& seed) {
  if (t.options & 4) convert<RANDOM, WHOLE, true>(t, p, seed);
  else convert<RANDOM, WHOLE, false>(t, p, seed);
}

extern "C" __global__
    __attribute__((amdgpu_flat_work_group_size(256, 256), amdgpu_waves_per_eu(3)))
void quantize_amdfp4_fp16__gfx90a_columns(u32x4 x, u32x4 codes, u32x4 scales, u32x4 outer, u32x4 used, u32 slabs, u32 rows, u32 columns, u32 seed_low, u32 seed_high, u32 offset_low, u32 offset_high, u32 options) {
#pragma clang fp contract(off)
  const u32 thread = __builtin_amdgcn_workitem_id_x(), lane = thread % 64;
  const u32 wave = __builtin_amdgcn_workgroup_id_x() * 4 + __builtin_amdgcn_readfirstlane(thread / 64);
  const u32 across = (columns + 8 * ACROSS - 1) / (8 * ACROSS), down = (rows + BLOCK - 1) / BLOCK;
  const u32 block = wave / across, slab = block / down;

  const float o = outer_scale(resource(outer), options);
  if (wave == 0 && lane == 0 && options & 2) store_b32(bits<u32>(o), resource(used), 0);
  if (slab >= slabs) return;
  const u32 column = ((wave - block * across) * ACROSS + lane % ACROSS) * 8;
  const Place place = {slab, block, (block - slab * down) * BLOCK + lane / ACROSS * ROWS, column};
  const Tensor tensor = {resource(x), resource(codes), resource(scales), rows, columns, o, options};
  const Seed seed = {seed_low, seed_high, (u64)offset_high << 32 | offset_low};
  const bool whole = columns % 8 == 0, random = options & 1;
  if (random && whole) convert<true, true>(tensor, place, seed);
  else if (random) convert<true, false>(tensor, place, seed);
  else if (whole) convert<false, true>(tensor, place, seed);
  else convert<false, false>(tensor, place, seed);
}
