// rowquantize_fp8_bf16__gfx90a_tokens
//
// Rows of x [rows, columns], bf16, to E4M3FNUZ with a scale each: codes [rows, columns], scales f32 [rows].
// docs/quantization.md, "FP8 a token". Columns and pitches are multiples of eight. Asked for, residual is added to x first and RMSNorm done, weights [columns].
//
// A workgroup has a row, which stays in its registers: each element is read once, 512 work-items times 16 loads of
// eight, up to 65536 columns. Weights are read twice, by all rows, from caches.
// LDS: a dword a wave, twice
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

// Every wave's LDS writes are done before any wave goes on. Global loads stay in flight: a fence would wait for them. The
// wait is a builtin, so that the compiler knows it has been and adds none of its own; the statements round it keep memory
// accesses on their side.
DEVICE void synchronize() {
  constexpr int LDS_DONE = 0xc07f;  // lgkmcnt(0), the other counters at their largest
  asm volatile("" ::: "memory");
  __builtin_amdgcn_s_waitcnt(LDS_DONE);
  asm volatile("s_barrier" ::: "memory");
}

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

DEVICE float wide(u32 half) { return bits<float>(half << 16); }
DEVICE float wide(const u32 (&w)[4], int e) { return wide(e % 2 ? w[e / 2] >> 16 : w[e / 2] & 0xffffu); }

constexpr u32 SIGNS = 0x80008000u, INFINITE = 32640;  // two of the type, one of it

// Magnitudes are compared as integers: NaN is above Inf, and Inf above the rest.
DEVICE u32 larger(u32 a, u32 b) { return bits<u32>(__builtin_elementwise_max(bits<u16x2>(a), bits<u16x2>(b))); }
DEVICE u32 larger_half(u32 a) { return a >> 16 > (a & 0xffffu) ? a >> 16 : a & 0xffffu; }

// Of the lane whose number differs in one bit.
template <int BIT> DEVICE u32 other_lane(u32 x) {
  if (BIT == 1) return __builtin_amdgcn_update_dpp(0, x, 0xb1, 0xf, 0xf, true);  // quad_perm [1, 0, 3, 2]
  if (BIT == 2) return __builtin_amdgcn_update_dpp(0, x, 0x4e, 0xf, 0xf, true);  // quad_perm [2, 3, 0, 1]
  return __builtin_amdgcn_ds_bpermute((__builtin_amdgcn_workitem_id_x() ^ BIT) % 64 * 4, x);
}

// To nearest even; a NaN stays one whatever its payload.
DEVICE u32 round(float x) {
  const u32 b = bits<u32>(x), even = b + 0x7fffu + ((b >> 16) & 1u), quiet = b | 0x00400000u;
  return (__builtin_unpredictable(__builtin_isnan(x)) ? quiet : even) >> 16;
}

// The magnitude nearest to v: floats from 2^(e + 20) on are as far apart as the codes are at 2^e, from 2^-7 on; the sum has
// v in such gaps, n, below and 147 + e in the exponent; the code is n + 8 (e + 7).
DEVICE u32 nearest(float v) {
  const u32 exponent = bits<u32>(v) & 0x7f800000u, least = 120u << 23;
  const u32 sum = bits<u32>(v + bits<float>((exponent > least ? exponent : least) + (20u << 23)));
  return (sum & 31u) + ((sum >> 23) - 140u) * 8u;
}

// Four codes of floats from -224 to 224, to the nearest.
DEVICE u32 four_codes(const float (&v)[4]) {
  u32 codes = 0;
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    const u32 magnitude = nearest(__builtin_fabsf(v[e]));
    codes |= (magnitude ? magnitude | (bits<u32>(v[e]) >> 24 & 0x80u) : 0u) << 8 * e;
  }
  return codes;
}


constexpr u32 THREADS = 512, LOADS = 16, WAVES = THREADS / 64, STEP = THREADS * 8;
constexpr float MOST = 224.0f, FLOOR = 1.0f / (224.0f * 512.0f);

typedef __attribute__((address_space(3))) u32* Shared;

DEVICE u32 combine_largest(u32 a, u32 b) { return a > b ? a : b; }
DEVICE u32 combine_sum(u32 a, u32 b) { return bits<u32>(bits<float>(a) + bits<float>(b)); }

// Of all work-items, in an order of its own but always the same. `lds` is used by nobody else.
template <u32 (*combine)(u32, u32)> DEVICE u32 of_all(u32 x, Shared lds, u32 thread) {
  x = combine(x, other_lane<1>(x));
  x = combine(x, other_lane<2>(x));
  x = combine(x, other_lane<4>(x));
  x = combine(x, other_lane<8>(x));
  x = combine(x, other_lane<16>(x));
  x = combine(x, other_lane<32>(x));
  if (thread % 64 == 0) lds[thread / 64] = x;
  synchronize();
  u32 result = lds[0];
#pragma unroll
  for (u32 i = 1; i < WAVES; ++i) result = combine(result, lds[i]);
  return result;
}

struct Row {
  Resource x, residual, sum, weight, codes;
  u32 from, beside, to;  // first elements of the row: of x, of residual, of what is written
  u32 columns, thread;
  float epsilon;
  u32 options;
};

// Element `column` and seven more: how many of them are there.
DEVICE u32 left_of(const Row& r, u32 column) { return column < r.columns ? r.columns - column : 0; }

// The row, with the residual added, which is rounded to the type and written.
DEVICE void load_row(const Row& r, u32 (&w)[LOADS][4]) {
#pragma unroll
  for (u32 i = 0; i < LOADS; ++i) {
    const u32 column = i * STEP + r.thread * 8;
#pragma unroll
    for (int j = 0; j < 4; ++j) w[i][j] = 0;
    if (i * STEP < r.columns) load_eight<true>(r.x, r.from + column, left_of(r, column), w[i]);
  }
  if (!(r.options & 2)) return;
#pragma unroll
  for (u32 i = 0; i < LOADS; ++i) {
    const u32 column = i * STEP + r.thread * 8, left = left_of(r, column);
    if (i * STEP >= r.columns) continue;
    u32 other[4], half[8];
    load_eight<true>(r.residual, r.beside + column, left, other);
#pragma unroll
    for (int e = 0; e < 8; ++e) half[e] = round(wide(w[i], e) + wide(other, e));
#pragma unroll
    for (int j = 0; j < 4; ++j) w[i][j] = half[2 * j] | half[2 * j + 1] << 16;
    store_b128(u32x4{w[i][0], w[i][1], w[i][2], w[i][3]}, r.sum, left ? (r.to + column) * 2 : OUT_OF_RANGE);
  }
}

// What is quantized of eight elements: themselves, or normed ones. Made anew each time: those of a whole row are more
// registers than there are.
template <bool NORM> DEVICE void numbers_of(const Row& r, const u32 (&kept)[4], u32 column, float scale, float (&y)[8]) {
  u32 weights[4], w[4] = {kept[0], kept[1], kept[2], kept[3]};
  asm volatile("" : "+v"(w[0]), "+v"(w[1]), "+v"(w[2]), "+v"(w[3]));
  if (NORM) load_eight<true>(r.weight, column, left_of(r, column), weights);
#pragma unroll
  for (int e = 0; e < 8; ++e) y[e] = NORM ? wide(w, e) * scale * wide(weights, e) : wide(w, e);
}

template <bool NORM> DEVICE float convert(const Row& r, Shared lds) {
  u32 w[LOADS][4], largest = 0;
  float y[8], squares = 0.0f, norm = 1.0f;
  load_row(r, w);
  if (NORM) {
#pragma unroll
    for (u32 i = 0; i < LOADS; ++i) {
      if (i * STEP >= r.columns) continue;
#pragma unroll
      for (int e = 0; e < 8; ++e) squares += wide(w[i], e) * wide(w[i], e);
    }
    const float sum = bits<float>(of_all<combine_sum>(bits<u32>(squares), lds, r.thread));
    norm = 1.0f / __builtin_sqrtf(sum / (float)r.columns + r.epsilon);
  }
#pragma unroll
  for (u32 i = 0; i < LOADS; ++i) {
    if (i * STEP >= r.columns) continue;
    numbers_of<NORM>(r, w[i], i * STEP + r.thread * 8, norm, y);
#pragma unroll
    for (int e = 0; e < 8; ++e) largest = combine_largest(largest, bits<u32>(y[e]) & 0x7fffffffu);
    keep_order();  // one load after the other: their numbers together are more registers than there are
  }
  // As integers magnitudes are ordered: NaN is above Inf, and Inf above the rest.
  largest = of_all<combine_largest>(largest, lds + WAVES, r.thread);
  const bool broken = largest >= 0x7f800000u;
  const float wanted = bits<float>(largest) / MOST, scale = wanted > FLOOR ? wanted : FLOOR;
#pragma unroll
  for (u32 i = 0; i < LOADS; ++i) {
    const u32 column = i * STEP + r.thread * 8;
    if (i * STEP >= r.columns) continue;
    numbers_of<NORM>(r, w[i], column, norm, y);
    u32 codes[2];
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      float v[4];
#pragma unroll
      for (int e = 0; e < 4; ++e) v[e] = __builtin_amdgcn_fmed3f(y[4 * j + e] / scale, -MOST, MOST);
      codes[j] = broken ? 0u : four_codes(v);
    }
    store_bytes<true>(u32x2{codes[0], codes[1]}, r.codes, r.to + column, left_of(r, column));
    keep_order();
  }
  return broken ? __builtin_nanf("") : scale;
}

extern "C" __global__
    __attribute__((amdgpu_flat_work_group_size(512, 512), amdgpu_waves_per_eu(4)))
void rowquantize_fp8_bf16__gfx90a_tokens(u32x4 x, u32x4 codes, u32x4 scales, u32x4 weight, u32x4 residual, u32x4 sum, u32 columns, u32 ldx, u32 ldr, float epsilon, u32 options) {
#pragma clang fp contract(off)
  __shared__ __attribute__((aligned(16))) u32 storage[2 * WAVES];
  const Shared lds = (Shared)storage;
  const u32 thread = __builtin_amdgcn_workitem_id_x(), row = __builtin_amdgcn_workgroup_id_x();
  const Row r = {resource(x), resource(residual), resource(sum), resource(weight), resource(codes), row * ldx, row * ldr,
                 row * columns, columns, thread, epsilon, options};
  const float scale = options & 1 ? convert<true>(r, lds) : convert<false>(r, lds);
  if (thread == 0) store_b32(bits<u32>(scale), resource(scales), row * 4);
}
