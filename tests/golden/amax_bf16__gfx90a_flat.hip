// amax_bf16__gfx90a_flat
//
// The largest magnitude of the finite numbers of x [count], bf16, as f32. `largest` is 0 before the first launch; several may
// share it. As bits of a f32, magnitudes are ordered like integers, so that who comes when does not matter.
//
// A work-item looks at 128 elements, 16 loads that are on their way together.
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


constexpr u32 LOADS = 16, THREADS = 256;

// Two magnitudes, 0 where a number is NaN or Inf: what is left above the largest finite one is at least 1 there.
DEVICE u32 finite(u32 two) {
  const u32 largest = (INFINITE - 1u) * 0x00010001u;
  const u16x2 above = __builtin_elementwise_sub_sat(bits<u16x2>(two), bits<u16x2>(largest));
  const u16x2 one = {1, 1}, zero = {0, 0};
  return two & ~bits<u32>(zero - __builtin_elementwise_min(above, one));
}

extern "C" __global__
    __attribute__((amdgpu_flat_work_group_size(256, 256), amdgpu_waves_per_eu(4)))
void amax_bf16__gfx90a_flat(u32x4 x, u32x4 largest, u32 count) {
  const u32 thread = __builtin_amdgcn_workitem_id_x(), workgroup = __builtin_amdgcn_workgroup_id_x();
  const Resource from = resource(x);
  const u32 first = (workgroup * LOADS * THREADS + thread) * 8, whole = count / 8 * 8;
  u32x4 w[LOADS];
#pragma unroll
  for (u32 i = 0; i < LOADS; ++i) {
    const u32 at = first + i * THREADS * 8;
    w[i] = load_b128(from, at < whole ? at * 2 : OUT_OF_RANGE);
  }
  // What eights do not reach: the first work-items have one each.
  u32 found = 0, rest = whole + first / 8;
  found = finite(load_b16(from, rest < count ? rest * 2 : OUT_OF_RANGE) & ~SIGNS);
#pragma unroll
  for (u32 i = 0; i < LOADS; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) found = larger(found, finite(w[i][j] & ~SIGNS));
  }
  found = larger(found, other_lane<1>(found));
  found = larger(found, other_lane<2>(found));
  found = larger(found, other_lane<4>(found));
  found = larger(found, other_lane<8>(found));
  found = larger(found, other_lane<16>(found));
  found = larger(found, other_lane<32>(found));
  typedef __attribute__((address_space(1))) u32* Pointer;
  const Pointer to = (Pointer)((u64)(largest[1] & 0xffffu) << 32 | largest[0]);
  if (thread % 64 == 0)
    __hip_atomic_fetch_max(to, bits<u32>(wide(larger_half(found))), __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
}
