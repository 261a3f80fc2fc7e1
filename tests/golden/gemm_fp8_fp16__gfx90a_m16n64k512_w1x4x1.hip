// gemm_fp8_fp16__gfx90a_m16n64k512_w1x4x1
//
// C[M,N] = (A[M,K] x dequant(W)[N,K]^T) * outer[N], fp8 weights, fp16 A and C, f32 sums.
//
// For few rows, where reading the weights is the work. A workgroup of 4 x 1 waves (n, k) makes 16 x 64 of C from
// one slice of K. A of 512 of K at a time lies in LDS, in the order of the matrix operands; between two chunks there is
// no barrier. Weights go from memory straight to registers, 2 stages in flight a wave. There are no scales
// within a column.
//
// Registers a lane: 4 accumulators, 2 x 8 weights and scales in flight
// LDS: 16384 bytes of A, then 4096 of sums in the same place
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

typedef f16x4 Operand;                 // four values of K
typedef f32x4 Accumulator;         // 16 x 16 over the wave

// Weights are the first operand, so that a lane's accumulators run along n and store side by side.
DEVICE Accumulator multiply_add(Operand weights, Operand activations, Accumulator sum) {
  return __builtin_amdgcn_mfma_f32_16x16x16f16(weights, activations, sum, 0, 0, 0);
}

// To nearest even; too large a value is Inf.
DEVICE u32 round(float x) { return bits<unsigned short>((_Float16)x); }

constexpr int BRICK_K = 128;                  // K of one brick of packed weights
constexpr int TILE_M = 16, TILE_N = 64, TILE_K = 512;
constexpr int WAVES_N = 4, WAVES_K = 1;
constexpr int WAVE_N = TILE_N / WAVES_N;
constexpr int ROWS = 1, COLUMNS = 1;          // matrix instructions across a wave's part
constexpr int STAGES = 2;                    // weight stages in flight
constexpr int STAGE_K = WAVES_K * BRICK_K;         // K of one weight stage of the workgroup
constexpr int TURN_K = STAGES * STAGE_K;           // and of one turn of the loop
constexpr int THREADS = 256;
constexpr int A_BYTES = ROWS * 16 * TILE_K * 2;

static_assert(TILE_K % TURN_K == 0, "a chunk is whole turns of the loop");

typedef __attribute__((address_space(3))) char* Lds;
template <typename T> DEVICE __attribute__((address_space(3))) T* at(Lds base, u32 offset) {
  return (__attribute__((address_space(3))) T*)(base + offset);
}

// Group g of a lane's 16 bytes of A.
template <int G> DEVICE Operand operand(u32x4 x) {
  const u32x2 four = {x[2 * G], x[2 * G + 1]};
  return bits<Operand>(four);
}

// ---- W: memory -> registers --------------------------------------------------------------------------------------
struct Weights {
  u32x4 codes[COLUMNS][2];  // of either half of a brick
};

// Where a wave is in a buffer: at its part of a row of bricks, of which `rest` bytes are left to the end of N, with
// `bricks` more along K. The base moves on in scalar registers, so that addresses cost no vector instruction, and what
// lies past the slice or past N reads zero.
struct Stream {
  u64 base;
  u32 rest, step, flags;
  int bricks;
};

DEVICE Stream stream(u32x4 words, u32 start, u32 rest, u32 step, int bricks) {
  Stream s;
  s.base = ((u64)(words[1] & 0xffffu) << 32 | words[0]) + start;
  s.rest = rest;
  s.step = step;
  s.flags = words[3];
  s.bricks = bricks;
  return s;
}

DEVICE Resource next(Stream& s) {
  const Resource r = __builtin_amdgcn_make_buffer_rsrc((void*)s.base, 0, s.bricks > 0 ? s.rest : 0, s.flags);
  s.base += s.step;
  s.bricks -= 1;
  return r;
}

DEVICE void load_weights(Weights& x, Stream& w, u32 codes) {
  const Resource rw = next(w);
#pragma unroll
  for (int j = 0; j < COLUMNS; ++j)
#pragma unroll
    for (int half = 0; half < 2; ++half) x.codes[j][half] = load_b128(rw, codes + j * 2048 + half * 1024);
}

// See streamed_w.hip.j2: holds back what depends on the loads until here.
DEVICE void pin(Weights& x) {
  asm volatile(""
               : "+v"(x.codes[0][0]), "+v"(x.codes[0][1])
  );
}

// ---- passes over K -----------------------------------------------------------------------------------------------
// No subnormal number must reach the matrix unit. A is brought up by 2^10, which makes all of its numbers normal; those from
// 2^6 on leave fp16 for Inf. That shows in the sums, and is rare: the workgroup then starts over and
// takes the parts of A in passes of their own, which round nothing.
constexpr u32 LARGE_A = 1;
constexpr u32 LAST_PASS = 1 + LARGE_A;
struct Sieve {
  u32 pass = 0;   // 0: everything; 1: the usual parts; from then on pass - 1 says which parts in their place
  u32 met = 0;    // parts that this thread met in pass 1
  u32 found = 0;  // and any of the workgroup
  int exponent = 10;  // of the power of two that sums have
};

DEVICE bool takes(const Sieve& sieve, u32 part) { return ((sieve.pass - 1) & part) != 0; }

// The pass's part of eight numbers of A.
DEVICE u32x4 sifted(u32x4 piece, Sieve& sieve) {
  constexpr unsigned short LARGE = 0x5400;
  const f16x2 up = {1024.0f, 1024.0f};
  u32x4 y;
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    const u32 pair = piece[e];
    if (sieve.pass == 0) {
      y[e] = bits<u32>(bits<f16x2>(pair) * up);
    } else {
      keep_order();  // one after the other: compilers would want many registers for it
      const u16x2 magnitude = bits<u16x2>(pair & 0x7fff7fffu), limit = {LARGE, LARGE};
      const u32 large = bits<u32>(magnitude >= limit);
      if (large) sieve.met |= LARGE_A;
      const u32 part = large;
      const bool usual = !takes(sieve, LARGE_A);
      y[e] = usual ? bits<u32>(bits<f16x2>(pair & ~large) * up) : pair & part;
    }
  }
  return y;
}

// The bits that any thread of the workgroup has, below 8. Uses LDS from its beginning on.
DEVICE u32 of_workgroup(u32 mine, Lds lds, u32 thread) {
  u32 wave = 0;
#pragma unroll
  for (u32 bit = 1; bit < 8; bit *= 2) wave |= __builtin_amdgcn_ballot_w64((mine & bit) != 0) ? bit : 0;
  synchronize();
  *at<u32>(lds, thread / 64 * 4) = wave;
  synchronize();
  u32 all = 0;
#pragma unroll
  for (int i = 0; i < THREADS / 64; ++i) all |= *at<u32>(lds, i * 4);
  synchronize();  // A may come there again
  return __builtin_amdgcn_readfirstlane(all);
}

DEVICE bool finite(const Accumulator (&sum)[ROWS][COLUMNS]) {
  f32x4 zero = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
  for (int i = 0; i < ROWS; ++i)
#pragma unroll
    for (int j = 0; j < COLUMNS; ++j) zero += sum[i][j] * 0.0f;
  return zero[0] + zero[1] + zero[2] + zero[3] == 0.0f;
}

DEVICE void multiply_sums(Accumulator (&sum)[ROWS][COLUMNS], float factor) {
#pragma unroll
  for (int i = 0; i < ROWS; ++i)
#pragma unroll
    for (int j = 0; j < COLUMNS; ++j) sum[i][j] *= factor;
}

// Makes everything ready for the next pass; false if there is none.
DEVICE bool next_pass(Sieve& sieve, Accumulator (&sum)[ROWS][COLUMNS], Lds lds, u32 thread) {
  if (sieve.pass == 0) {
    if (!of_workgroup(!finite(sum), lds, thread)) return false;
    sieve.pass = 1;
    return true;
  }
  if (sieve.pass == 1) {
    sieve.found = of_workgroup(sieve.met, lds, thread);
  } else {
    synchronize();  // the next pass clears A
  }
  do ++sieve.pass;
  while (sieve.pass <= LAST_PASS && (sieve.pass - 1 & ~sieve.found));
  if (sieve.pass > LAST_PASS) return false;
  const int exponent = 10 - (takes(sieve, LARGE_A) ? 10 : 0);
  multiply_sums(sum, __builtin_amdgcn_ldexpf(1.0f, exponent - sieve.exponent));
  sieve.exponent = exponent;
  return true;
}

// ---- A: memory -> LDS --------------------------------------------------------------------------------------------
// LDS holds, for every 32 of K and every 16 rows, what lane 16 * quad + row gives to the matrix instructions: 16 bytes,
// k = 8 quad + j: what is a matrix instruction's order of K is nobody's business, if it is the weights' own.
constexpr int A_PIECES = TILE_M * TILE_K / 8;                          // of 16 bytes
constexpr int A_LOADS = (A_PIECES + THREADS - 1) / THREADS;

// The chunk of A from k0 on; zeros from `end` on. Rows past M are past the buffer.
DEVICE void stage_a(Lds lds, Resource a, u32 thread, u32 m0, u32 lda, u32 k0, u32 end, Sieve& state) {
  const u32 row = thread % TILE_M, first = thread / TILE_M;
  u32x4 piece[A_LOADS];
#pragma unroll
  for (int i = 0; i < A_LOADS; ++i) {
    const u32 at_k = k0 + (first + i * (THREADS / TILE_M)) * 8;
    piece[i] = load_b128(a, at_k < end ? ((m0 + row) * lda + at_k) * 2 : OUT_OF_RANGE);
  }
  synchronize();  // nobody reads the chunk before any more
#pragma unroll
  for (int i = 0; i < A_LOADS; ++i) piece[i] = sifted(piece[i], state);
#pragma unroll
  for (int i = 0; i < A_LOADS; ++i) {
    const u32 index = first + i * (THREADS / TILE_M);
    const u32 c = index / 4, place = index % 4;
    const u32 lane_row = row % 16, block = row / 16;
    const u32 offset = ((c * ROWS + block) * 64 + place * 16 + lane_row) * 16;
    const u32x2 low = {piece[i][0], piece[i][1]}, high = {piece[i][2], piece[i][3]};
    *at<u32x4>(lds, offset) = u32x4{low[0], low[1], high[0], high[1]};
  }
  synchronize();
  keep_order();  // a weaker sched_barrier further on unties reads of LDS from the barrier (keep_vector_order)
}

// Vector and matrix instructions stay where they are; scalar ones (0x4) and LDS reads (0x100) may cross.
DEVICE void keep_vector_order() { __builtin_amdgcn_sched_barrier(0x104); }

// ---- codes -------------------------------------------------------------------------------------------------------
// Two codes, in bytes 1 and 3, as fp16 numbers of 2^-7 their value: exponent and mantissa move one place down, the sign stays.
DEVICE f16x2 halves(u32 codes) {
  const i16x2 down = bits<i16x2>(codes) >> 1;
  return bits<f16x2>(bits<u32>(down) & 0xbfffbfffu);
}

DEVICE u32 pair(u32 codes) {
  // The matrix unit of gfx90a takes subnormal numbers for zero: bring the codes to their own size.
  const f16x2 up = {128.0f, 128.0f};
  return bits<u32>(halves(codes) * up);
}
// Four codes, each times 2^0.
DEVICE Operand decode(u32 four) {
  const u32x2 pairs = {pair(__builtin_amdgcn_perm(four, four, 0x010c000cu)), pair(__builtin_amdgcn_perm(four, four, 0x030c020cu))};
  return bits<Operand>(pairs);
}

// ---- the product -------------------------------------------------------------------------------------------------
constexpr int READS = 2;  // of LDS, for the 64 of K in half a brick

DEVICE void multiply_stage(Accumulator (&sum)[ROWS][COLUMNS], const Weights& w, Lds a) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    u32x4 x[ROWS][READS];
#pragma unroll
    for (int c = 0; c < READS; ++c)
#pragma unroll
      for (int i = 0; i < ROWS; ++i) x[i][c] = *at<u32x4>(a, ((half * READS + c) * ROWS + i) * 1024);
#pragma unroll
    for (int j = 0; j < COLUMNS; ++j) {
      const u32x4 codes = w.codes[j][half];
      {
        const Operand weights = decode(codes[0]);
#pragma unroll
        for (int i = 0; i < ROWS; ++i) sum[i][j] = multiply_add(operand<0>(x[i][0]), weights, sum[i][j]);
      }
      {
        const Operand weights = decode(codes[1]);
#pragma unroll
        for (int i = 0; i < ROWS; ++i) sum[i][j] = multiply_add(operand<1>(x[i][0]), weights, sum[i][j]);
      }
      {
        const Operand weights = decode(codes[2]);
#pragma unroll
        for (int i = 0; i < ROWS; ++i) sum[i][j] = multiply_add(operand<0>(x[i][1]), weights, sum[i][j]);
      }
      {
        const Operand weights = decode(codes[3]);
#pragma unroll
        for (int i = 0; i < ROWS; ++i) sum[i][j] = multiply_add(operand<1>(x[i][1]), weights, sum[i][j]);
      }
      keep_vector_order();
    }
  }
  // Here: compilers would let the last of it wait until the next loads are on their way, into other registers.
#pragma unroll
  for (int i = 0; i < ROWS; ++i)
#pragma unroll
    for (int j = 0; j < COLUMNS; ++j) asm volatile("" : "+v"(sum[i][j]));
}

// ---- late arguments ----------------------------------------------------------------------------------------------
// The arguments as the kernarg has them.
struct Arguments {
  u32x4 a;
  u32x4 w;
  u32x4 s;
  u32x4 o;
  u32x4 c;
  u32x4 p;
  u32x4 t;
  u32 m;
  u32 n;
  u32 k;
  u32 lda;
  u32 ldc;
  u32 slices;
  u32x4 bias;
  u32x4 residual;
  u32 ldr;
  u32 options;
};

// For what is needed behind the loop only, and would take scalar registers from the kernel's start on.
typedef const __attribute__((address_space(4))) Arguments* LateArguments;

DEVICE LateArguments late_arguments() {
  auto arguments = (LateArguments)__builtin_amdgcn_kernarg_segment_ptr();
  asm volatile("" : "+s"(arguments));
  return arguments;
}

// ---- slices ------------------------------------------------------------------------------------------------------
// Counts the workgroup in at its tile; true for the whole workgroup if it is the last. Its partial sums are then in
// memory, and those of the others can be read. The counter is left at zero for the next launch. Uses the first dword of
// LDS, which nobody may need any more.
DEVICE bool last_to_arrive(u32x4 counters, u32 tile, u32 slices, Lds lds, u32 thread) {
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "agent");
  synchronize();
  if (thread == 0) {
    typedef __attribute__((address_space(1))) u32* Counter;
    const Counter counter = (Counter)((u64)(counters[1] & 0xffffu) << 32 | counters[0]) + tile;
    const u32 before = __hip_atomic_fetch_add(counter, 1u, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
    // Not a store: a store is no atomic on every architecture, and the arrivals are.
    if (before == slices - 1) __hip_atomic_exchange(counter, 0u, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
    *at<u32>(lds, 0) = before;
  }
  synchronize();
  const bool last = __builtin_amdgcn_readfirstlane(*at<u32>(lds, 0)) == slices - 1;
  if (last) __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "agent");
  return last;
}

// Four neighbours along n of one row. Columns past N would be the next row, so they are aimed out of the buffer.
// WHOLE: N and ldc are multiples of four, so that the four are all inside or all outside, and aligned.
template <bool WHOLE> DEVICE void store_four(const float (&y)[4], Resource c, u32 row_offset, u32 n, u32 N) {
  u32 rounded[4];
#pragma unroll
  for (int e = 0; e < 4; ++e) rounded[e] = round(y[e]);
  if (WHOLE) {
    const u32x2 four = {rounded[0] | rounded[1] << 16, rounded[2] | rounded[3] << 16};
    store_b64(four, c, n < N ? row_offset + n * 2 : OUT_OF_RANGE);
  } else {
#pragma unroll
    for (int e = 0; e < 4; ++e) store_b16(rounded[e], c, n + e < N ? row_offset + (n + e) * 2 : OUT_OF_RANGE);
  }
}

// ---- epilogue ----------------------------------------------------------------------------------------------------
// Bits of the argument `options`, in the order of what they do (runtime/epilogue.py).
constexpr u32 BIAS = 1, RESIDUAL = 2, SILU = 4, GELU = 8, GELU_TANH = 16, SWIGLU = 32;

struct Epilogue {
  u32 options;
  Resource bias, residual;
  u32 ldr, N;
  bool whole;  // four neighbours are all inside or all outside, and aligned
};

DEVICE Epilogue epilogue_of(u32 options, LateArguments late, u32 N, u32 ldc) {
  const u32x4 bias = late->bias, residual = late->residual;
  const u32 ldr = late->ldr, pitches = N | ldc | ldr, bases = bias[0] | residual[0];
  return {options, resource(bias), resource(residual), ldr, N, (pitches & 3) == 0 && (bases & 7) == 0};
}

DEVICE float widen(u32 half) { return (float)bits<_Float16>((unsigned short)half); }
// COUNT neighbours from `n` on of `N`, zeros beyond; the row begins `row` bytes into the buffer.
template <int COUNT> DEVICE void add(float (&y)[4], Resource from, u32 row, u32 n, u32 N, bool whole) {
  if (whole && COUNT == 4) {
    const u32x2 four = load_b64(from, n < N ? row + n * 2 : OUT_OF_RANGE);
    y[0] += widen(four[0] & 0xffffu);
    y[1] += widen(four[0] >> 16);
    y[2] += widen(four[1] & 0xffffu);
    y[3] += widen(four[1] >> 16);
  } else {
#pragma unroll
    for (int e = 0; e < COUNT; ++e) y[e] += widen(load_b16(from, n + e < N ? row + (n + e) * 2 : OUT_OF_RANGE));
  }
}

DEVICE float sigmoid(float x) { return __builtin_amdgcn_rcpf(1.0f + __builtin_amdgcn_exp2f(x * -0x1.715476p+0f)); }

// erfc(z) / 2 for z = x / sqrt 2 from 0 on, as t / 2 * e^(p(t) - z^2) with t = 1 / (1 + z / 2): petitgen/render/epilogue.py.
DEVICE float upper_tail(float x) {
  const float z = x * 0x1.6a09e6p-1f, t = __builtin_amdgcn_rcpf(1.0f + 0.5f * z);
  float p = -0.191815898f;
  p = p * t + 0.768410981f;
  p = p * t + -1.02998197f;
  p = p * t + 0.376201719f;
  p = p * t + -0.0532830171f;
  p = p * t + 0.397921443f;
  p = p * t + 0.997986734f;
  p = p * t + -1.26544082f;
  return 0.5f * t * __builtin_amdgcn_exp2f((p - z * z) * 0x1.715476p+0f);
}

DEVICE float gelu(float x) {
  const float tail = upper_tail(__builtin_fabsf(x));
  return x * (x < 0 ? tail : 1.0f - tail);
}

DEVICE void activate(float (&y)[4], u32 options) {
  if (options & GELU) {
#pragma unroll
    for (int e = 0; e < 4; ++e) y[e] = gelu(y[e]);
  } else if (options & (SILU | GELU_TANH)) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const float cubic = y[e] * 1.5957691216f * (1.0f + 0.044715f * y[e] * y[e]);
      y[e] *= sigmoid(options & SILU ? y[e] : cubic);
    }
  }
}

// Four neighbours from column n on of a row, to C.
DEVICE void finish_four(float (&y)[4], const Epilogue& e, Resource c, u32 row, u32 n, u32 ldc) {
  if (e.options & BIAS) add<4>(y, e.bias, 0, n, e.N, e.whole);
  activate(y, e.options);
  if (e.options & SWIGLU) {
    y[0] = y[0] * sigmoid(y[0]) * y[1];
    y[1] = y[2] * sigmoid(y[2]) * y[3];
    const u32 half = n / 2, columns = e.N / 2;
    if (e.options & RESIDUAL) add<2>(y, e.residual, row * e.ldr * 2, half, columns, e.whole);
#pragma unroll
    for (int i = 0; i < 2; ++i) store_b16(round(y[i]), c, half + i < columns ? (row * ldc + half + i) * 2 : OUT_OF_RANGE);
  } else {
    if (e.options & RESIDUAL) add<4>(y, e.residual, row * e.ldr * 2, n, e.N, e.whole);
    if (e.whole) {
      store_four<true>(y, c, row * ldc * 2, n, e.N);
    } else {
      store_four<false>(y, c, row * ldc * 2, n, e.N);
    }
  }
}

// ---- C -----------------------------------------------------------------------------------------------------------
constexpr int C_FOURS = TILE_M * TILE_N / 4, C_TURNS = (C_FOURS + THREADS - 1) / THREADS;

// Leaves the wave's sums in LDS: f32 [WAVES_K][16 * ROWS][TILE_N]. A lane has four rows of one column.
DEVICE void leave_sums(const Accumulator (&sum)[ROWS][COLUMNS], Lds lds, u32 wave_n, u32 wave_k, u32 lane) {
#pragma unroll
  for (int i = 0; i < ROWS; ++i)
#pragma unroll
    for (int j = 0; j < COLUMNS; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const u32 row = (wave_k * ROWS + i) * 16 + lane / 16 * 4 + e;
        *at<float>(lds, (row * TILE_N + wave_n * WAVE_N + j * 16 + lane % 16) * 4) = sum[i][j][e];
      }
}

// Four neighbours of one row of C: every wave along K, always in the same order.
DEVICE f32x4 take_sums(Lds lds, u32 row, u32 column) {
  f32x4 total = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
  for (int part = 0; part < WAVES_K * 1; ++part)
    total += *at<f32x4>(lds, ((part * 16 * ROWS + row) * TILE_N + column) * 4);
  return total;
}

// y = sum * outer * 2^exponent, by mantissa and exponent: no order of multiplications keeps every such product in f32.
DEVICE float scaled(float sum, float outer, int exponent) {
  return __builtin_amdgcn_ldexpf(sum * __builtin_amdgcn_frexp_mantf(outer), __builtin_amdgcn_frexp_expf(outer) + exponent);
}

DEVICE u32 give(float sum, int exponent) { return bits<u32>(__builtin_amdgcn_ldexpf(sum, exponent)); }
constexpr int TOGETHER = 8;  // slices whose sums are on their way at once

DEVICE void take(u32x4 given, f32x4& total) {
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    const u32 word = given[e];
    total[e] += bits<float>(word);
  }
}

// Outer scales of what a thread stores, asked for early: they come from memory.
struct Outer {
  u32x4 four[C_TURNS];
};

DEVICE Outer load_outer(Resource o, u32 n0, u32 thread) {
  Outer x;
#pragma unroll
  for (int turn = 0; turn < C_TURNS; ++turn) x.four[turn] = load_b128(o, (n0 + (turn * THREADS + thread) % (TILE_N / 4) * 4) * 4);
  return x;
}

template <typename Store>
DEVICE void store_c(const f32x4 (&total)[C_TURNS], const int (&exponent)[C_TURNS], const Outer& outer, u32 m0, u32 n0, u32 thread, u32 N, Store store) {
#pragma unroll
  for (int turn = 0; turn < C_TURNS; ++turn) {
    const u32 item = turn * THREADS + thread, row = item / (TILE_N / 4);
    const bool there = C_FOURS % THREADS == 0 || item < C_FOURS;
    const u32 column = there ? n0 + item % (TILE_N / 4) * 4 : N;  // past N nothing is stored
    float y[4];
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const u32 word = outer.four[turn][e];
      y[e] = scaled(total[turn][e], bits<float>(word), exponent[turn]);
    }
    store(y, m0 + row, column);
  }
}

extern "C" __global__
    __attribute__((amdgpu_flat_work_group_size(256, 256), amdgpu_waves_per_eu(4)))
void gemm_fp8_fp16__gfx90a_m16n64k512_w1x4x1(u32x4 a, u32x4 w, u32x4 s, u32x4 o, u32x4 c, u32x4 p, u32x4 t, u32 m, u32 n, u32 k, u32 lda, u32 ldc, u32 slices, u32x4 bias, u32x4 residual, u32 ldr, u32 options) {
  __shared__ __attribute__((aligned(128))) char lds_storage[16384];
  const Lds lds = (Lds)lds_storage;
  const u32 N = n, K = k, pitch = lda;  // of A
  u32 thread = __builtin_amdgcn_workitem_id_x(), lane = thread % 64;
  const u32 wave = __builtin_amdgcn_readfirstlane(thread / 64);
  const u32 wave_n = wave % WAVES_N, wave_k = wave / WAVES_N;
  const u32 m0 = __builtin_amdgcn_workgroup_id_y() * TILE_M, n0 = __builtin_amdgcn_workgroup_id_x() * TILE_N;

  // This workgroup's slice of K.
  const u32 slice = __builtin_amdgcn_workgroup_id_z(), units = (K + STAGE_K - 1) / STAGE_K;
  const u32 share = (units + slices - 1) / slices * STAGE_K, begin = slice * share;
  const u32 end = begin + share < K ? begin + share : K;
  // Whether there is an epilogue, in the highest bit of the number of slices. Compilers read an argument where it is used, and at its
  // end every wave would wait for it; a scalar register more for so long is one that some kernels do not have.
  constexpr u32 FINISHED = 1u << 31;
  u32 slices_and = slices | ((options + (FINISHED - 1)) & FINISHED);
  asm volatile("" : "+s"(slices_and));

  // A brick row along N is ceil(N/16) bricks of 2048 bytes of codes.
  const u32 tiles_n = (N + 15) / 16, tile_n = (n0 + wave_n * WAVE_N) / 16;
  const u32 brick = begin / BRICK_K + wave_k;
  const int past = (end + BRICK_K - 1) / BRICK_K, bricks = tile_n < tiles_n ? (past - (int)brick + WAVES_K - 1) / WAVES_K : 0;
  const u32 codes = lane * 16;

  const Resource ra = resource(a);

  Accumulator sum[ROWS][COLUMNS];
  Sieve sieve;
#pragma unroll 1
  for (;;) {
    if (sieve.pass < 2)  // later ones add to what there is
#pragma unroll
    for (int i = 0; i < ROWS; ++i)
#pragma unroll
      for (int j = 0; j < COLUMNS; ++j) sum[i][j] = (Accumulator)0.0f;

    const u32 place = brick * tiles_n + tile_n, rest = tiles_n - tile_n, step = WAVES_K * tiles_n;
    Stream of_codes = stream(w, place * 2048, rest * 2048, step * 2048, bricks);
    Weights ring[STAGES];
#pragma unroll
    for (int i = 0; i < STAGES; ++i) {
      load_weights(ring[i], of_codes, codes);
      keep_order();
    }
#pragma unroll 1
    for (u32 chunk = begin; chunk < end; chunk += TILE_K) {
      stage_a(lds, ra, thread, m0, pitch, chunk, end, sieve);
      const u32 rest = end - chunk, depth = rest < TILE_K ? rest : TILE_K;
      Lds fragments = lds + wave_k * (BRICK_K / 32 * ROWS * 1024) + lane * 16;
#pragma unroll 1
      for (u32 done = 0; done < depth; done += TURN_K) {
#pragma unroll
        for (int i = 0; i < STAGES; ++i) {
          pin(ring[i]);
          multiply_stage(sum, ring[i], fragments + i * (STAGE_K / 32 * ROWS * 1024));
          keep_order();
          load_weights(ring[i], of_codes, codes);
          keep_order();
        }
        fragments += TURN_K / 32 * ROWS * 1024;
      }
    }
    if (!next_pass(sieve, sum, lds, thread)) break;
  }
  asm volatile("" : "+v"(thread));  // what follows from it is worked out behind the loop, and not kept through it
  lane = thread % 64;
  const Outer outer = load_outer(resource(o), n0, thread);
  const Resource rc = resource(c);
  synchronize();  // nobody reads A any more
  leave_sums(sum, lds, wave_n, wave_k, lane);
  synchronize();
  f32x4 total[C_TURNS] = {};
#pragma unroll
  for (int turn = 0; turn < C_TURNS; ++turn) {
    const u32 item = turn * THREADS + thread;
    if (C_FOURS % THREADS == 0 || item < C_FOURS) total[turn] = take_sums(lds, item / (TILE_N / 4), item % (TILE_N / 4) * 4);
  }
  int exponent[C_TURNS];  // what the sums of a row are short of
#pragma unroll
  for (int turn = 0; turn < C_TURNS; ++turn) {
    exponent[turn] = -sieve.exponent;
  }
  u32 plain = slices_and < FINISHED;
  asm volatile("" : "+s"(plain));  // else compilers turn the test round, and those without an epilogue jump over it
  slices = slices_and & ~FINISHED;

  if (slices > 1) {
    const u32 tile = __builtin_amdgcn_workgroup_id_y() * ((N + TILE_N - 1) / TILE_N) + __builtin_amdgcn_workgroup_id_x();
    const u32 tiles = ((m + TILE_M - 1) / TILE_M) * ((N + TILE_N - 1) / TILE_N);
    const Resource rp = resource(late_arguments()->p);
#pragma unroll
    for (int turn = 0; turn < C_TURNS; ++turn) {
      const u32 item = turn * THREADS + thread;
      u32x4 given;
#pragma unroll
      for (int e = 0; e < 4; ++e) given[e] = give(total[turn][e], exponent[turn]);
      if (C_FOURS % THREADS == 0 || item < C_FOURS) store_b128(given, rp, ((slice * tiles + tile) * C_FOURS + item) * 16);
    }
    if (!last_to_arrive(late_arguments()->t, tile, slices, lds, thread)) return;
#pragma unroll
    for (int turn = 0; turn < C_TURNS; ++turn) {
      total[turn] = (f32x4)0.0f;
      exponent[turn] = 0;
    }
#pragma unroll 1
    for (u32 first = 0; first < slices; first += TOGETHER) {
      u32x4 given[TOGETHER][C_TURNS];
#pragma unroll
      for (int i = 0; i < TOGETHER; ++i)
#pragma unroll
        for (int turn = 0; turn < C_TURNS; ++turn) {
          const u32 item = turn * THREADS + thread;
          const bool there = first + i < slices && (C_FOURS % THREADS == 0 || item < C_FOURS);
          given[i][turn] = load_b128(rp, there ? (((first + i) * tiles + tile) * C_FOURS + item) * 16 : OUT_OF_RANGE);
        }
#pragma unroll
      for (int i = 0; i < TOGETHER; ++i)
#pragma unroll
        for (int turn = 0; turn < C_TURNS; ++turn) take(given[i][turn], total[turn]);
    }
  }
  if (plain == 0) {
    const Epilogue e = epilogue_of(options, late_arguments(), N, ldc);
    store_c(total, exponent, outer, m0, n0, thread, N,
            [&](float (&y)[4], u32 row, u32 column) __attribute__((always_inline)) { finish_four(y, e, rc, row, column, ldc); });
    return;
  }
  if (((N | ldc) & 3) == 0) {
    store_c(total, exponent, outer, m0, n0, thread, N,
            [&](float (&y)[4], u32 row, u32 column) __attribute__((always_inline)) { store_four<true>(y, rc, row * ldc * 2, column, N); });
  } else {
    store_c(total, exponent, outer, m0, n0, thread, N,
            [&](float (&y)[4], u32 row, u32 column) __attribute__((always_inline)) { store_four<false>(y, rc, row * ldc * 2, column, N); });
  }
}
