// dequantize_mxfp4_fp16__gfx942_eights
//
// mxfp4 codes and scales to y [slabs, rows, columns], fp16. Two codes of a byte are neighbours along the rows, or along
// the columns if so said; blocks lie the same way, or are of 32 x 32. Bit for bit what docs/quantization.md defines.
//
// A work-item has eight columns of a row, or of two where these share bytes. Each byte is read and written once.
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

DEVICE float scale_value(u32 byte) {
  return byte == 255u ? __builtin_nanf("") : bits<float>(byte ? byte << 23 : 0x00400000u);
}

// A code in the position of a f32 is 2^126 too small; 0.5 is subnormal there.
DEVICE float value_of(u32 code) {
  return bits<float>((code & 7u) << 22 | (code & 8u) << 28) * 0x1p126f;
}

// To nearest even; too large a value is Inf.
DEVICE u32 round(float x) { return bits<unsigned short>((_Float16)x); }

constexpr u32 BLOCK = 32;

// Bytes `at` to `at` + COUNT - 1, of which `left` are there.
template <bool WHOLE, int COUNT> DEVICE void load_bytes(Resource r, u32 at, u32 left, u32 (&bytes)[COUNT]) {
#pragma unroll
  for (u32 i = 0; i < COUNT; i += 4) {
    const u32 four = WHOLE ? load_b32(r, i < left ? at + i : OUT_OF_RANGE) : 0;
#pragma unroll
    for (u32 j = i; j < i + 4; ++j)
      bytes[j] = WHOLE ? four >> (j - i) * 8 & 255u : load_b8(r, j < left ? at + j : OUT_OF_RANGE);
  }
}

// The values of eight codes to y.
template <bool WHOLE> DEVICE void store_eight(const u32 (&codes)[8], const float (&steps)[8], Resource y, u32 at, u32 left) {
  u32 half[8];
#pragma unroll
  for (int e = 0; e < 8; ++e) {
    float value = value_of(codes[e]) * steps[e];
    asm("" : "+v"(value));  // rounded to f32 first: no v_fma_mixlo_f16, which rounds once and adds zero to -0
    half[e] = round(value);
  }
  if (WHOLE) {
    const u32x4 eight = {half[0] | half[1] << 16, half[2] | half[3] << 16, half[4] | half[5] << 16, half[6] | half[7] << 16};
    store_b128(eight, y, left ? at * 2 : OUT_OF_RANGE);
  } else {
#pragma unroll
    for (u32 e = 0; e < 8; ++e) store_b16(half[e], y, e < left ? (at + e) * 2 : OUT_OF_RANGE);
  }
}

struct Tensor {
  Resource codes, scales, y;
  u32 rows, columns;
  float outer;
};

// What an element of 1 is in each column. One scale for all eight where blocks do not lie along the rows alone.
template <bool WHOLE, bool EACH> DEVICE void steps_of(const Tensor& t, u32 at, u32 left, float (&steps)[8]) {
  u32 bytes[8];
  if (EACH) load_bytes<WHOLE>(t.scales, at, left, bytes);
  else bytes[0] = load_b8(t.scales, left ? at : OUT_OF_RANGE);
#pragma unroll
  for (int e = 0; e < 8; ++e) steps[e] = scale_value(bytes[EACH ? e : 0]);
}

// Pairs along the columns: eight of one row. scale: where its scale is.
template <bool WHOLE> DEVICE void of_row(const Tensor& t, u32 row, u32 column, u32 left, u32 scale) {
  const u32 at = row * t.columns + column;
  u32 bytes[4], codes[8];
  float steps[8];
  load_bytes<WHOLE>(t.codes, at / 2, left / 2, bytes);
  steps_of<WHOLE, false>(t, scale, left, steps);
#pragma unroll
  for (int e = 0; e < 8; ++e) codes[e] = bytes[e / 2] >> e % 2 * 4;
  store_eight<WHOLE>(codes, steps, t.y, at, left);
}

// Pairs along the rows: eight columns of two.
template <bool WHOLE, bool EACH> DEVICE void of_two(const Tensor& t, u32 pair, u32 column, u32 left, u32 scale) {
  u32 bytes[8], codes[8];
  float steps[8];
  load_bytes<WHOLE>(t.codes, pair * t.columns + column, left, bytes);
  steps_of<WHOLE, EACH>(t, scale, left, steps);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int e = 0; e < 8; ++e) codes[e] = bytes[e] >> 4 * half;
    store_eight<WHOLE>(codes, steps, t.y, (2 * pair + half) * t.columns + column, left);
  }
}

template <bool WHOLE> DEVICE void convert(const Tensor& t, u32 slabs, u32 group, u32 options) {
  const bool in_rows = options & 8, square = options & 4;
  const u32 groups = (t.columns + 7) / 8, lines = in_rows ? t.rows : t.rows / 2;
  const u32 line = group / groups, column = (group - line * groups) * 8, slab = line / lines;
  const u32 row = (line - slab * lines) * (in_rows ? 1 : 2), left = slab < slabs ? t.columns - column : 0;
  const u32 across = (t.columns + BLOCK - 1) / BLOCK, down = (t.rows + BLOCK - 1) / BLOCK;
  const u32 block = slab * down + row / BLOCK;
  if (in_rows) of_row<WHOLE>(t, line, column, left, (square ? block : line) * across + column / BLOCK);
  else if (square) of_two<WHOLE, false>(t, line, column, left, block * across + column / BLOCK);
  else of_two<WHOLE, true>(t, line, column, left, block * t.columns + column);
}

extern "C" __global__
    __attribute__((amdgpu_flat_work_group_size(256, 256), amdgpu_waves_per_eu(8)))
void dequantize_mxfp4_fp16__gfx942_eights(u32x4 codes, u32x4 scales, u32x4 outer, u32x4 y, u32 slabs, u32 rows, u32 columns, u32 options) {
#pragma clang fp contract(off)
  const u32 group = __builtin_amdgcn_workgroup_id_x() * 256 + __builtin_amdgcn_workitem_id_x();
  const float o = 1.0f;
  const Tensor tensor = {resource(codes), resource(scales), resource(y), rows, columns, o};
  if (columns % 8 == 0) convert<true>(tensor, slabs, group, options);
  else convert<false>(tensor, slabs, group, options);
}
