// What the test kernels share: no HIP headers are used, so that any clang compiles them.
#define KERNEL extern "C" __attribute__((global)) __attribute__((amdgpu_flat_work_group_size(1, 1024))) void
#define DEVICE static __attribute__((device)) inline
#define SHARED __attribute__((shared))
typedef unsigned u32;
typedef unsigned long long u64;
typedef unsigned u32x2 __attribute__((ext_vector_type(2)));
typedef unsigned u32x3 __attribute__((ext_vector_type(3)));
typedef unsigned u32x4 __attribute__((ext_vector_type(4)));
typedef float f32x2 __attribute__((ext_vector_type(2)));
typedef float f32x4 __attribute__((ext_vector_type(4)));
typedef _Float16 f16x2 __attribute__((ext_vector_type(2)));
typedef short i16x2 __attribute__((ext_vector_type(2)));

DEVICE u32 tid() { return __builtin_amdgcn_workitem_id_x(); }
DEVICE u32 wg() { return __builtin_amdgcn_workgroup_id_x(); }
DEVICE u32 block_size() { return ((__attribute__((address_space(4))) unsigned short *)__builtin_amdgcn_implicitarg_ptr())[6]; }
DEVICE u32 gid() { return wg() * block_size() + tid(); }
DEVICE u32 lane() { return __builtin_amdgcn_mbcnt_hi(~0u, __builtin_amdgcn_mbcnt_lo(~0u, 0)); }
DEVICE void barrier() {
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
  __builtin_amdgcn_s_barrier();
  __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
}
