// gemm_nvfp4_fp16__gfx90a_m16n32k256_w1x2x2
//
// C[M,N] = (A[M,K] x dequant(W)[N,K]^T) * outer[N], nvfp4 weights, fp16 A and C, f32 sums.
//
// A workgroup of 1 x 2 x 2 waves (m, n, k) makes 16 x 32 of C.
// Weights go from memory straight to registers, where the one wave that needs them dequantizes them.
// A goes through LDS, 256 of K at a time, two buffers, one barrier a step.
// Tails need no branch: what lies past M, N or K is past the end of a buffer, or is aimed there.
//
// Registers a lane: 4 accumulators, 4 x 6 weights and scales in flight, 32 of A in flight
// LDS: 2 x 8192 bytes of A, then 2048 of partial sums in the same place
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

// Eight codes of one dword as fp16 pairs, each code * 2^-14. Pairs 0, 1: g = 0; pairs 2, 3: g = 1.
DEVICE void unpack(u32 q, f16x2 (&pair)[4]) {
  constexpr u32 CODE = 0x8e008e00u;  // sign, two exponent bits, mantissa
  const u32 r = __builtin_bitreverse32(q);
  pair[0] = bits<f16x2>(q & CODE);
  pair[1] = bits<f16x2>((q << 8) & CODE);
  pair[2] = bits<f16x2>(r & CODE);
  pair[3] = bits<f16x2>((r << 8) & CODE);
}

// Block scales of one column for 64 of K: pair[g] holds group g of the even dword (low half) and of the odd one (high).
struct Scales {
  f16x2 pair[2];
};

// E4M3 bytes 1 and 3 of `x` in fp16 position (scale * 2^-8), times 2^8. The arithmetic shift
// keeps the sign where it is; the mask clears its copy and the bits of the other bytes.
DEVICE f16x2 convert_scales(u32 x) {
  const i16x2 shifted = bits<i16x2>(x) >> (short)1;
  const f16x2 step = {(_Float16)256.0f, (_Float16)256.0f};
  return bits<f16x2>(bits<u32>(shifted) & 0xbf80bf80u) * step;
}

// Of the brick's pair of dwords `pair` (0 or 1). Group g of the pair has bytes `pair` and `pair` + 2 of scale dword g: see
// scale_places in runtime/formats.py.
DEVICE Scales convert(u32x2 bytes, int pair) {
  Scales s;
#pragma unroll
  for (int g = 0; g < 2; ++g) {
    const u32 dword = bytes[g];
    s.pair[g] = convert_scales(pair == 0 ? dword << 8 : dword);
  }
  return s;
}

// Four codes times their scale as fp16.
template <int SCALE> DEVICE Operand dequantize(f16x2 first, f16x2 second, f16x2 scale) {
  const f16x2 splat = {scale[SCALE], scale[SCALE]};
  // The MFMA of gfx90a flushes subnormal inputs: bring the codes to their own size, so that no product is one.
  const f16x2 up = {(_Float16)16384.0f, (_Float16)16384.0f};
  first *= up;
  second *= up;
  const f16x2 a = first * splat, b = second * splat;
  const u32x2 pairs = {bits<u32>(a), bits<u32>(b)};
  return bits<Operand>(pairs);
}


// To nearest even; too large a value is Inf.
DEVICE u32 round(float x) { return bits<unsigned short>((_Float16)x); }

constexpr int BRICK_K = 128;                  // K of one brick of packed weights
constexpr int TILE_M = 16, TILE_N = 32, TILE_K = 256;
constexpr int WAVES_M = 1, WAVES_N = 2, WAVES_K = 2;
constexpr int WAVE_M = TILE_M / WAVES_M, WAVE_N = TILE_N / WAVES_N;
constexpr int MFMA = 16;                        // rows and columns of one matrix instruction
constexpr int ROWS = WAVE_M / MFMA, COLUMNS = WAVE_N / MFMA;  // matrix instructions across a wave's part
constexpr int QUADS = 1;                      // quads of a brick that one lane reads
constexpr int STAGES = 4;                    // weight stages in flight
constexpr int A_AHEAD = 4;                   // steps of A in flight
constexpr int STAGE_K = 256;                  // K of one weight stage of the workgroup
constexpr int BRICKS = 1;                    // bricks along K that a wave takes of one stage
constexpr int STEPS = STAGE_K / TILE_K;                   // steps of A in one weight stage
constexpr int UNROLL = STAGES * STEPS;                   // steps in one turn of the loop
constexpr int PAIRS = 2;                      // pairs of dwords (64 of K) a wave takes of one brick in one step
constexpr int A_PITCH = TILE_K * 2, A_BYTES = TILE_M * A_PITCH;
constexpr int A_CHUNKS = TILE_K / 8;                      // 16-byte chunks in a row of A
constexpr int THREADS = 256;
constexpr int A_PASS = THREADS / A_CHUNKS;                // rows of A that the workgroup loads at once
constexpr int A_LOADS = TILE_M / A_PASS;

static_assert(A_LOADS * A_PASS == TILE_M, "every thread loads the same number of chunks");
static_assert(STEPS * TILE_K == STAGE_K && UNROLL % 2 == 0, "LDS buffers alternate in fixed roles");
static_assert(UNROLL % A_AHEAD == 0, "registers of A alternate in fixed roles");

typedef __attribute__((address_space(3))) char* Lds;
template <typename T> DEVICE __attribute__((address_space(3))) T* at(Lds base, u32 offset) {
  return (__attribute__((address_space(3))) T*)(base + offset);
}

struct Watch {
  u16x2 smallest = {0xffff, 0xffff};  // of |a| - 1, so that zero is the largest
  u32 rescue = 0;                     // 1 in the second pass
};
constexpr float RESCUE = 1024.0f;

DEVICE void watch(Watch& w, u32 pair) {
  const u16x2 one = {1, 1};
  const u16x2 below = bits<u16x2>(pair & 0x7fff7fffu) - one;
  w.smallest = __builtin_elementwise_min(w.smallest, below);
}

// The subnormal halves of a pair times 2^10; others zero. A half is subnormal when its exponent bits are zero.
DEVICE u32 rescued(u32 pair) {
  const u16x2 exponent = bits<u16x2>(pair & 0x7c007c00u), one = {1, 1};
  const u16x2 keep = __builtin_elementwise_min(exponent, one) - one;  // all ones where the exponent is zero
  const f16x2 up = {(_Float16)RESCUE, (_Float16)RESCUE};
  return bits<u32>(bits<f16x2>(pair & bits<u32>(keep)) * up);
}

// True for the whole workgroup when any of its lanes met a subnormal number. Uses the first 4 dwords of LDS.
DEVICE bool met_subnormal(const Watch& w, Lds lds, u32 wave) {
  constexpr unsigned short LARGEST = 0x3ff - 1;
  const bool mine = w.smallest[0] <= LARGEST || w.smallest[1] <= LARGEST;
  *at<u32>(lds, wave * 4) = __builtin_amdgcn_ballot_w64(mine) != 0;
  synchronize();
  u32 any = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) any |= *at<u32>(lds, i * 4);
  synchronize();
  return __builtin_amdgcn_readfirstlane(any) != 0;
}


// ---- A: memory -> registers -> LDS -----------------------------------------------------------------------------
struct StagedA {
  u32x4 chunk[A_LOADS];
};

struct PlaceA {
  u32 source[A_LOADS];  // byte offset of the thread's chunk in A, at K = 0
  u32 target[A_LOADS];  // and in an LDS buffer
  u32 k;                // its place along K within a step
};

// LDS rows are permuted in chunks (chunk ^ row & 7), so that reading a column of chunks touches every bank.
DEVICE PlaceA place_a(u32 thread, u32 m0, u32 lda) {
  PlaceA p;
  const u32 chunk = thread % A_CHUNKS;
  p.k = chunk * 8;
#pragma unroll
  for (int i = 0; i < A_LOADS; ++i) {
    const u32 row = thread / A_CHUNKS + i * A_PASS;
    p.source[i] = ((m0 + row) * lda + p.k) * 2;
    p.target[i] = row * A_PITCH + ((chunk ^ (row & 7)) << 4);
  }
  return p;
}

// Rows past M are past the buffer; chunks past K would be the next row, so they are aimed out of it.
DEVICE void load_a(StagedA& a, Resource r, const PlaceA& p, u32 k0, u32 K) {
  const bool inside = k0 + p.k < K;
#pragma unroll
  for (int i = 0; i < A_LOADS; ++i) a.chunk[i] = load_b128(r, inside ? p.source[i] + k0 * 2 : OUT_OF_RANGE);
}

DEVICE void store_a(const StagedA& a, Lds lds, const PlaceA& p) {
#pragma unroll
  for (int i = 0; i < A_LOADS; ++i) *at<u32x4>(lds, p.target[i]) = a.chunk[i];
}
// The same on the watch for subnormal numbers, or in the pass that rescues them.
DEVICE void store_a(const StagedA& a, Lds lds, const PlaceA& p, Watch& w) {
  asm volatile("" : "+s"(w.rescue));  // else compilers make a loop for either value
  if (w.rescue) {
#pragma unroll
    for (int i = 0; i < A_LOADS; ++i) {
      const u32x4 chunk = a.chunk[i];
      const u32x4 x = {rescued(chunk[0]), rescued(chunk[1]), rescued(chunk[2]), rescued(chunk[3])};
      *at<u32x4>(lds, p.target[i]) = x;
    }
  } else {
#pragma unroll
    for (int i = 0; i < A_LOADS; ++i)
#pragma unroll
      for (int d = 0; d < 4; ++d) {
        const u32 pair = a.chunk[i][d];
        watch(w, pair);
      }
    store_a(a, lds, p);
  }
}

// ---- W: memory -> registers ------------------------------------------------------------------------------------
struct Weights {
  u32x4 codes[BRICKS][COLUMNS][QUADS];
  u32x2 scales[BRICKS][COLUMNS];
};

struct PlaceW {
  u32 codes, scales;            // byte offsets of the lane in the next stage
  u32 brick_codes, brick_scales;  // bytes from a brick to the next along K
};

DEVICE void load_weights(Weights& x, Resource w, Resource s, PlaceW& p) {
#pragma unroll
  for (int b = 0; b < BRICKS; ++b)
#pragma unroll
    for (int j = 0; j < COLUMNS; ++j) {
#pragma unroll
      for (int q = 0; q < QUADS; ++q)
        x.codes[b][j][q] = load_b128(w, p.codes + b * p.brick_codes + j * (MFMA * 64) + q * 256);
      x.scales[b][j] = load_b64(s, p.scales + b * p.brick_scales + j * (MFMA * 8));
    }
  p.codes += p.brick_codes * (BRICKS * WAVES_K);
  p.scales += p.brick_scales * (BRICKS * WAVES_K);
}

// Dequantization depends on nothing but the load, and compilers hoist it there, with the wait that it needs. Tying the
// registers at the point of use, all in one statement, keeps the loads in flight until then and makes one wait of them.
DEVICE void pin(Weights& x) {
  asm volatile(""
               : "+v"(x.codes[0][0][0])
               , "+v"(x.scales[0][0])
  );
}

// ---- the product -----------------------------------------------------------------------------------------------
// What one lane gives to the matrix instructions of 16 of K.
struct Fragment {
  Operand quad[QUADS];
};

DEVICE Fragment load_fragment(Lds a, u32 offset) {
  Fragment f;
  f.quad[0] = *at<Operand>(a, offset);
  return f;
}

struct PlaceFragment {
  u32 offset[2][2];  // byte offset in an LDS buffer: [dword of the pair][group of 16]
};

DEVICE PlaceFragment place_fragment(u32 lane, u32 wave_m, u32 wave_k) {
  PlaceFragment p;
  const u32 row = lane % MFMA, part = lane / MFMA;  // part: which quads of a group are the lane's
#pragma unroll
  for (int odd = 0; odd < 2; ++odd)
#pragma unroll
    for (int g = 0; g < 2; ++g) {
      const u32 chunk = 4 * odd + 2 * g + part * QUADS / 2, half = part * QUADS % 2;
      p.offset[odd][g] = (wave_m * WAVE_M + row) * A_PITCH + wave_k * (BRICKS * BRICK_K * 2) +
                         ((chunk ^ (row & 7)) << 4) + half * 8;
    }
  return p;
}

// One dword of every column: 32 of K in two groups of 16, each with its scale. ODD: which dword of its pair it is.
template <int ODD>
DEVICE void multiply_dword(Accumulator (&sum)[ROWS][COLUMNS], const u32 (&codes)[COLUMNS][QUADS],
                           const Scales (&scales)[COLUMNS], Lds a, const PlaceFragment& place) {
  Operand w[COLUMNS][QUADS][2];
#pragma unroll
  for (int j = 0; j < COLUMNS; ++j)
#pragma unroll
    for (int q = 0; q < QUADS; ++q) {
      f16x2 pair[4];
      unpack(codes[j][q], pair);
      w[j][q][0] = dequantize<ODD>(pair[0], pair[1], scales[j].pair[0]);
      w[j][q][1] = dequantize<ODD>(pair[2], pair[3], scales[j].pair[1]);
    }
#pragma unroll
  for (int g = 0; g < 2; ++g)
#pragma unroll
    for (int i = 0; i < ROWS; ++i) {
      const Fragment x = load_fragment(a, place.offset[ODD][g] + i * (MFMA * A_PITCH));
#pragma unroll
      for (int q = 0; q < QUADS; ++q)
#pragma unroll
        for (int j = 0; j < COLUMNS; ++j) sum[i][j] = multiply_add(w[j][q][g], x.quad[q], sum[i][j]);
    }
}

template <int ODD>
DEVICE void multiply_pair(Accumulator (&sum)[ROWS][COLUMNS], const Weights& w, const Scales (&scales)[COLUMNS], int brick,
                          int pair, Lds a, const PlaceFragment& place) {
  u32 codes[COLUMNS][QUADS];
#pragma unroll
  for (int j = 0; j < COLUMNS; ++j)
#pragma unroll
    for (int q = 0; q < QUADS; ++q) codes[j][q] = w.codes[brick][j][q][2 * pair + ODD];
  multiply_dword<ODD>(sum, codes, scales, a, place);
}

// One step: the wave's bricks (or the pair of dwords that the step covers) against one LDS buffer of A.
DEVICE void multiply_step(Accumulator (&sum)[ROWS][COLUMNS], const Weights& w, int step, Lds a,
                          const PlaceFragment& place) {
#pragma unroll
  for (int b = 0; b < BRICKS; ++b)
#pragma unroll
    for (int p = 0; p < PAIRS; ++p) {
      const int pair = step * PAIRS + p;
      Scales scales[COLUMNS];
#pragma unroll
      for (int j = 0; j < COLUMNS; ++j) scales[j] = convert(w.scales[b][j], pair);
      const Lds group = a + (b * PAIRS + p) * 128;
      multiply_pair<0>(sum, w, scales, b, pair, group, place);
      multiply_pair<1>(sum, w, scales, b, pair, group, place);
    }
}

// ---- partial sums ----------------------------------------------------------------------------------------------
// Waves that share a part of C along K add up through LDS, always in the order of K. Only wave_k = 0 then holds sums.
DEVICE void reduce(Accumulator (&sum)[ROWS][COLUMNS], Lds lds, u32 wave_mn, u32 wave_k, u32 lane) {
  constexpr u32 PART = sizeof(Accumulator) * 64, WAVE = PART * ROWS * COLUMNS, SLICE = WAVE * WAVES_M * WAVES_N;
  const Lds mine = lds + wave_mn * WAVE + lane * 16;
  if (wave_k > 0) {
#pragma unroll
    for (int i = 0; i < ROWS; ++i)
#pragma unroll
      for (int j = 0; j < COLUMNS; ++j) {
        const f32x4 part_0 = {sum[i][j][0], sum[i][j][1], sum[i][j][2], sum[i][j][3]};
        *at<f32x4>(mine, (wave_k - 1) * SLICE + (i * COLUMNS + j) * PART + 0) = part_0;
      }
  }
  synchronize();
  if (wave_k > 0) return;
#pragma unroll
  for (int other = 0; other < WAVES_K - 1; ++other)
#pragma unroll
    for (int i = 0; i < ROWS; ++i)
#pragma unroll
      for (int j = 0; j < COLUMNS; ++j) {
        const f32x4 part_0 = *at<f32x4>(mine, other * SLICE + (i * COLUMNS + j) * PART + 0);
        sum[i][j][0] += part_0[0];
        sum[i][j][1] += part_0[1];
        sum[i][j][2] += part_0[2];
        sum[i][j][3] += part_0[3];
      }
}

// ---- C ---------------------------------------------------------------------------------------------------------
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


// The wave's part of C. m, n: the lane's first row and column. factor, the power of two that dequantization left, comes
// last: outer times factor could leave f32 where the result does not.
template <bool WHOLE>
DEVICE void store_c(const Accumulator (&sum)[ROWS][COLUMNS], Resource o, Resource c, u32 m, u32 n, u32 N, u32 ldc,
                    float factor) {
#pragma unroll
  for (int j = 0; j < COLUMNS; ++j) {
    {
      const u32 column = n + j * MFMA + 0;
      const u32x4 outer_bits = load_b128(o, column * 4);
      float outer[4];
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const u32 word = outer_bits[e];
        outer[e] = bits<float>(word);
      }
#pragma unroll
      for (int i = 0; i < ROWS; ++i) {
        const float y[4] = {sum[i][j][0] * outer[0] * factor, sum[i][j][1] * outer[1] * factor, sum[i][j][2] * outer[2] * factor, sum[i][j][3] * outer[3] * factor};
        store_four<WHOLE>(y, c, (m + i * MFMA) * ldc * 2, column, N);
      }
    }
  }
}

extern "C" __global__
    __attribute__((amdgpu_flat_work_group_size(256, 256), amdgpu_waves_per_eu(4)))
void gemm_nvfp4_fp16__gfx90a_m16n32k256_w1x2x2(u32x4 a, u32x4 w, u32x4 s, u32x4 o, u32x4 c, u32 m, u32 n, u32 k, u32 lda, u32 ldc) {
  __shared__ __attribute__((aligned(128))) char lds_storage[16384];
  const Lds lds = (Lds)lds_storage;
  const u32 N = n, K = k;
  const u32 thread = __builtin_amdgcn_workitem_id_x(), lane = thread % 64;
  const u32 wave = __builtin_amdgcn_readfirstlane(thread / 64);
  const u32 wave_n = wave % WAVES_N, wave_m = wave / WAVES_N % WAVES_M, wave_k = wave / (WAVES_N * WAVES_M);
  const u32 m0 = __builtin_amdgcn_workgroup_id_y() * TILE_M;
  const u32 n0 = __builtin_amdgcn_workgroup_id_x() * TILE_N + wave_n * WAVE_N;

  const Resource ra = resource(a), rw = resource(w), rs = resource(s);
  const PlaceA place = place_a(thread, m0, lda);
  const PlaceFragment fragment = place_fragment(lane, wave_m, wave_k);

  // A brick row along N is ceil(N/16) bricks of 1024 bytes of codes and 128 of scales.
  const u32 tiles_n = (N + 15) / 16, first = wave_k * BRICKS * tiles_n + n0 / 16;
  PlaceW pw;
  pw.brick_codes = tiles_n * 1024;
  pw.brick_scales = tiles_n * 128;
  pw.codes = first * 1024 + lane * 16;
  pw.scales = first * 128 + lane % MFMA * 8;

  Accumulator sum[ROWS][COLUMNS];
#pragma unroll
  for (int i = 0; i < ROWS; ++i)
#pragma unroll
    for (int j = 0; j < COLUMNS; ++j) sum[i][j] = (Accumulator)0.0f;

  Watch seen;
  const PlaceW start = pw;
#pragma unroll 1
  for (;;) {
    pw = start;
  // Loads return in order, so the order in which they are asked for decides what a wait drains. It is the loop's from
  // the start: what the UNROLL steps before step 0 would have asked for.
  StagedA first_a, ahead[A_AHEAD];
  Weights ring[STAGES];
  load_a(first_a, ra, place, 0, K);
  keep_order();
#pragma unroll
  for (int before = UNROLL; before > 0; --before) {
    const int step = A_AHEAD + 1 - before;
    if (step > 0) load_a(ahead[step % A_AHEAD], ra, place, step * TILE_K, K);
    keep_order();
    if ((before - 1) % STEPS == 0) load_weights(ring[STAGES - 1 - (before - 1) / STEPS], rw, rs, pw);
    keep_order();
  }

  store_a(first_a, lds, place, seen);
  synchronize();

  // Straight unrolling over the stages keeps every register set and LDS buffer in a fixed role. Stages past K multiply
  // zeros.
#pragma unroll 1
  for (u32 k0 = 0; k0 < K; k0 += STAGES * STAGE_K) {
#pragma unroll
    for (int i = 0; i < STAGES; ++i) {
      pin(ring[i]);
#pragma unroll
      for (int step = 0; step < STEPS; ++step) {
        const int now = i * STEPS + step, next = now + 1, slot = next % A_AHEAD;
        multiply_step(sum, ring[i], step, lds + now % 2 * A_BYTES, fragment);
        keep_order();
        store_a(ahead[slot], lds + next % 2 * A_BYTES, place, seen);
        load_a(ahead[slot], ra, place, k0 + (next + A_AHEAD) * TILE_K, K);
        keep_order();
        if (step == STEPS - 1) load_weights(ring[i], rw, rs, pw);
        synchronize();  // the next buffer is whole, and nobody reads this one any more
      }
    }
  }
    if (seen.rescue || !met_subnormal(seen, lds, wave)) break;
    seen.rescue = 1;
#pragma unroll
    for (int i = 0; i < ROWS; ++i)
#pragma unroll
      for (int j = 0; j < COLUMNS; ++j) sum[i][j] *= RESCUE;
  }
  const float factor = seen.rescue ? 1.0f / RESCUE : 1.0f;
  reduce(sum, lds, wave_m * WAVES_N + wave_n, wave_k, lane);
  if (wave_k > 0) return;

  const Resource ro = resource(o), rc = resource(c);
  const u32 row = m0 + wave_m * WAVE_M + lane % MFMA, column = n0 + lane / MFMA * 4;
  if (((N | ldc) & 3) == 0) {
    store_c<true>(sum, ro, rc, row, column, N, ldc, factor);
  } else {
    store_c<false>(sum, ro, rc, row, column, N, ldc, factor);
  }
}
