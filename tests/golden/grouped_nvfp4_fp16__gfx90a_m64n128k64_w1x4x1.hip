// grouped_nvfp4_fp16__gfx90a_m64n128k64_w1x4x1
//
// C[r,N] = (A[r,K] x dequant(W[expert of r])[N,K]^T) * outer[N] for sorted rows r, nvfp4 weights, fp16 A and C, f32 sums.
//
// For many rows, where the matrix instructions are the work. A workgroup of 1 x 4 waves (m, n) makes 64 x 128 of C.
// Weights go from memory straight to registers, where the one wave that needs them dequantizes them.
// A goes through LDS, 64 of K (a step) at a time, two buffers, one barrier a step.
// While the matrix unit works on 16 of K (a sub-step), operands of the next are read from LDS and dequantized.
// Tails need no branch: what lies past M, N or K is past the end of a buffer, or is aimed there.
//
// Registers a lane: 32 accumulators, 4 x 6 weights and scales and 16 of A in flight, 24 operands
// LDS: 2 x 8192 bytes of A
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

// A buffer that is read along K in steps. Where a wave is goes into soffset, a scalar register, so that a step costs no
// vector instruction. The range check takes soffset from num_records: it must never be the larger, and at the end it is
// as large, where everything reads zero.
struct Stream {
  Resource buffer;
  u32 offset, step, end;
};

// Bytes `start` to `end` of the buffer that `words` describes.
DEVICE Stream stream(u32x4 words, u32 start, u32 end, u32 step) {
  const u32 records = words[2], last = end < records ? end : records;
  u32 first = start < last ? start : last;
  asm("" : "+s"(first));  // a subtraction that saturates would be one for vector registers
  const u64 base = ((u64)(words[1] & 0xffffu) << 32 | words[0]) + first;
  Stream s;
  s.end = last - first;
  s.buffer = __builtin_amdgcn_make_buffer_rsrc((void*)base, 0, s.end, words[3]);
  s.offset = 0;
  s.step = step;
  return s;
}

DEVICE void advance(Stream& s) { s.offset = s.end - s.offset > s.step ? s.offset + s.step : s.end; }

DEVICE u32x4 load_b128(const Stream& s, u32 offset) {
  return __builtin_amdgcn_raw_buffer_load_b128(s.buffer, offset, s.offset, 0);
}
DEVICE u32x2 load_b64(const Stream& s, u32 offset) {
  return __builtin_amdgcn_raw_buffer_load_b64(s.buffer, offset, s.offset, 0);
}
DEVICE u32 load_b32(const Stream& s, u32 offset) {
  return __builtin_amdgcn_raw_buffer_load_b32(s.buffer, offset, s.offset, 0);
}

typedef f16x4 Operand;                 // four values of K
typedef f32x16 Accumulator;         // 32 x 32 over the wave

// Weights are the first operand, so that a lane's accumulators run along n and store side by side.
DEVICE Accumulator multiply_add(Operand weights, Operand activations, Accumulator sum) {
  return __builtin_amdgcn_mfma_f32_32x32x8f16(weights, activations, sum, 0, 0, 0);
}

// How compilers shall mix the instructions of a stretch: behind every matrix instruction one LDS access and one load, as
// long as there are, and VALU instructions to fill its time.
template <int MFMAS, int LDS, int LOADS, int VALU> DEVICE void mix() {
  constexpr int ANY_VALU = 0x2, MATRIX = 0x8, LOAD = 0x20, ANY_LDS = 0x80;
#pragma unroll
  for (int i = 0; i < MFMAS; ++i) {
    __builtin_amdgcn_sched_group_barrier(MATRIX, 1, 0);
    if (i < LDS) __builtin_amdgcn_sched_group_barrier(ANY_LDS, 1, 0);
    if (i < LOADS) __builtin_amdgcn_sched_group_barrier(LOAD, 1, 0);
    __builtin_amdgcn_sched_group_barrier(ANY_VALU, VALU, 0);
  }
}

// ---- codes -------------------------------------------------------------------------------------------------------
// Two dwords that hold four codes, two each, in the position of a number type; the other bits belong to other codes.
struct Places {
  u32 first, second;
};

// SUB: which 16 of K of the 64 in a pair of dwords (p: c even, q: c odd).
constexpr u32 CODE = 0x8e008e00u;  // sign, two exponent bits, mantissa of two fp16
struct Masks {};
DEVICE Masks masks() { return {}; }

template <int SUB> DEVICE Places place(u32 p, u32 q, const Masks&) {
  const u32 dword = SUB < 2 ? p : q, x = SUB % 2 ? __builtin_bitreverse32(dword) : dword;
  return {x, x << 8};
}

// Block scales of one column for 64 of K, times 2^0, as fp16: pair[g] has group g of either dword.
struct Scales {
  f16x2 pair[2];
};

// HALF: which 64 of the brick. Group g of the 64's two dwords has bytes HALF and HALF + 2 of scale dword g: see scale_places
// in runtime/formats.py. In fp16 position (scale * 2^-8); packing left no sign.
template <int HALF> DEVICE Scales convert(u32x2 bytes) {
  const f16x2 step = {(_Float16)0x1.0000000000000p+8f, (_Float16)0x1.0000000000000p+8f};
  Scales s;
#pragma unroll
  for (int g = 0; g < 2; ++g) {
    const u32 dword = bytes[g];
    const u32 shifted = HALF == 0 ? dword << 7 : dword >> 1;
    // Order window: 15 more in the exponent but for zero; all of it where scales are subnormal numbers of E4M3.
    const u16x2 more = {0x3c00, 0x3c00};
    const u32 half = bits<u32>(__builtin_elementwise_sub_sat(bits<u16x2>(shifted & 0x7f807f80u), more));
    s.pair[g] = bits<f16x2>(half & 0x3f803f80u) * step;
  }
  return s;
}

template <int SCALE> DEVICE u32 scaled_pair(f16x2 code, f16x2 scale) {
  const f16x2 splat = {scale[SCALE], scale[SCALE]};
  // The MFMA of gfx90a flushes subnormal inputs: bring the codes up, so that every product is exact.
  const f16x2 up = {(_Float16)0x1.0000000000000p+14f, (_Float16)0x1.0000000000000p+14f};
  code *= up;
  return bits<u32>(code * splat);
}
// Four codes of the pair of dwords p, q (order window of runtime/formats.py) times their scale. SUB: which 16 of the 64 of K.
template <int SUB> DEVICE Operand dequantize(u32 p, u32 q, const Scales& scales, const Masks& mask) {
  constexpr int ODD = SUB / 2, G = SUB % 2;
  const Places at = place<SUB>(p, q, mask);
  const u32x2 pairs = {scaled_pair<ODD>(bits<f16x2>(at.first & CODE), scales.pair[G]),
                       scaled_pair<ODD>(bits<f16x2>(at.second & CODE), scales.pair[G])};
  return bits<Operand>(pairs);
}



// To nearest even; too large a value is Inf.
DEVICE u32 round(float x) { return bits<unsigned short>((_Float16)x); }

constexpr int BRICK_K = 128;                  // K of one brick of packed weights
constexpr int TILE_M = 64, TILE_N = 128, TILE_K = 64;
constexpr int WAVES_M = 1, WAVES_N = 4;
constexpr int WAVE_M = TILE_M / WAVES_M, WAVE_N = TILE_N / WAVES_N;
constexpr int MFMA = 32;                          // rows and columns of one matrix instruction
constexpr int ROWS = WAVE_M / MFMA, COLUMNS = WAVE_N / MFMA;  // matrix instructions across a wave's part
constexpr int SUBSTEPS = TILE_K / 16;
constexpr int STAGES = 4;                    // steps whose weights are in registers
constexpr int A_AHEAD = 2;                   // steps of A in flight
constexpr int A_PITCH = TILE_K * 2, A_BYTES = TILE_M * A_PITCH;
constexpr int A_CHUNKS = TILE_K / 8;                      // 16-byte chunks in a row of A
constexpr int THREADS = 256;
constexpr int A_PASS = THREADS / A_CHUNKS;                // rows of A that the workgroup loads at once
constexpr int A_LOADS = TILE_M / A_PASS;
constexpr int W_LOADS = 3 * COLUMNS;
constexpr int UNIT = 128;                     // slices share K in units of it
constexpr int C_BYTES = TILE_M * TILE_N * 4;      // of partial sums

static_assert(A_LOADS * A_PASS == TILE_M, "every thread loads the same number of chunks");
static_assert(BRICK_K == 2 * TILE_K && STAGES % 2 == 0, "halves of bricks and LDS buffers alternate in fixed roles");
static_assert(STAGES % A_AHEAD == 0, "registers of A alternate in fixed roles");

typedef __attribute__((address_space(3))) char* Lds;
template <typename T> DEVICE __attribute__((address_space(3))) T* at(Lds base, u32 offset) {
  return (__attribute__((address_space(3))) T*)(base + offset);
}

// What a pass lets through, and what it has seen.
struct Watch {
  u32 subnormal = 0;        // bits of subnormal numbers and of zeros, all of them together
  u32 normal = 0xffffffff;  // all ones: numbers that are not subnormal pass
  u32 factor = 0x3c003c00;  // of what passes, an fp16 pair
};
constexpr float RESCUE = 1024.0f;

DEVICE void rescue(Watch& w) {
  w.normal = 0;
  w.factor = 0x64006400;  // RESCUE
}

DEVICE u32 watched(Watch& w, u32 pair) {
  const u16x2 exponent = bits<u16x2>(pair & 0x7c007c00u), one = {1, 1};
  const u32 subnormal = bits<u32>(__builtin_elementwise_min(exponent, one) - one);  // ones where the exponent is zero
  w.subnormal |= pair & subnormal;
  return bits<u32>(bits<f16x2>(pair & (subnormal | w.normal)) * bits<f16x2>(w.factor));
}

// True for the whole workgroup when any of its lanes met a subnormal number. Uses the first 4 dwords of LDS.
DEVICE bool met_subnormal(const Watch& w, Lds lds, u32 wave) {
  synchronize();  // nobody reads A any more
  *at<u32>(lds, wave * 4) = __builtin_amdgcn_ballot_w64((w.subnormal & 0x7fff7fffu) != 0) != 0;
  synchronize();
  u32 any = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) any |= *at<u32>(lds, i * 4);
  synchronize();
  return __builtin_amdgcn_readfirstlane(any) != 0;
}


// ---- sorted rows ---------------------------------------------------------------------------------------------------
// A sorted row is a token (the low 24 bits) and which of its experts it is for (its slot, the high 8). Padding names a token
// or a slot that there is none of.
constexpr u32 NOWHERE = 0xffffffffu;  // no row: times any pitch it is past every buffer, and columns do not bring it back

struct Sorted {
  Resource ids;
  u32 end;  // of the sorted rows that count
  u32 tokens, topk;
};

DEVICE u32 id_of(const Sorted& s, u32 row) {
  const u32 id = load_b32(s.ids, row * 4);
  return row < s.end && (id & 0xffffffu) < s.tokens && id >> 24 < s.topk ? id : NOWHERE;
}

DEVICE u32 row_of_c(u32 id, u32 topk) { return id == NOWHERE ? NOWHERE : (id & 0xffffffu) * topk + (id >> 24); }

// Byte offset in A, which has a row for each token, or one for each of its slots.
DEVICE u32 offset_in_a(u32 id, u32 topk, u32 slots, u32 lda) {
  const u32 row = slots > 1 ? row_of_c(id, topk) : id & 0xffffffu;
  return id == NOWHERE ? OUT_OF_RANGE : row * lda * 2;
}

// True for every wave alike if a row of the tile counts.
DEVICE bool any_row(const Sorted& s, u32 m0, u32 lane) {
  bool any = false;
#pragma unroll
  for (int first = 0; first < TILE_M; first += 64) any |= id_of(s, m0 + first + lane % TILE_M) != NOWHERE;
  return __builtin_amdgcn_ballot_w64(any) != 0;
}

DEVICE u32 uniform(u32x4 buffer, u32 index) { return __builtin_amdgcn_readfirstlane(load_b32(resource(buffer), index * 4)); }

// A buffer of one expert, from the first one's. A stack of them may be larger than a descriptor can tell.
DEVICE u32x4 of_expert(u32x4 words, u32 expert) {
  const u64 base = ((u64)(words[1] & 0xffffu) << 32 | words[0]) + (u64)expert * words[2];
  return u32x4{(u32)base, (u32)(base >> 32), words[2], words[3]};
}

// Where a row of the tile goes, and its routing weight.
struct Target {
  u32 row;
  float weight;
};

DEVICE Target target_of(const Sorted& s, Resource route, u32 row) {
  return {row_of_c(id_of(s, row), s.topk), bits<float>(load_b32(route, row * 4))};
}

// ---- A: memory -> registers -> LDS -> operands --------------------------------------------------------------------
struct StagedA {
  u32x4 chunk[A_LOADS];
};

struct PlaceA {
  u32 source[A_LOADS];  // byte offset of the thread's chunk from the tile's first row, at the step's K
  u32 target;           // and in an LDS buffer, for the first of its rows
  u32 k;                // its place along K within a step
};

// LDS rows are permuted in chunks (chunk ^ row & 7), so that reading a column of chunks touches every bank.
DEVICE PlaceA place_a(u32 thread, u32 lda, const Sorted& sorted, u32 m0, u32 slots) {
  PlaceA p;
  const u32 chunk = thread % A_CHUNKS, row = thread / A_CHUNKS;
  p.k = chunk * 8;
  p.target = row * A_PITCH + ((chunk ^ (row & 7)) << 4);
#pragma unroll
  for (int i = 0; i < A_LOADS; ++i)
    p.source[i] = offset_in_a(id_of(sorted, m0 + row + i * A_PASS), sorted.topk, slots, lda) + p.k * 2;
  return p;
}

// Rows past M are past the buffer; chunks past the `left` of K would be the next slice or the next row, so they are aimed out of it.
DEVICE void load_a(StagedA& a, Stream& s, const PlaceA& p, int left) {
  const bool inside = (int)p.k < left;
#pragma unroll
  for (int i = 0; i < A_LOADS; ++i) a.chunk[i] = load_b128(s, inside ? p.source[i] : OUT_OF_RANGE);
  advance(s);
}

DEVICE void store_a(const StagedA& a, Lds buffer, const PlaceA& p) {
#pragma unroll
  for (int i = 0; i < A_LOADS; ++i) *at<u32x4>(buffer, p.target + i * (A_PASS * A_PITCH)) = a.chunk[i];
}
// On the watch for subnormal numbers; only these, brought up, in the pass that rescues them.
DEVICE void watch_a(StagedA& a, Watch& w) {
#pragma unroll
  for (int i = 0; i < A_LOADS; ++i)
#pragma unroll
    for (int d = 0; d < 4; ++d) {
      const u32 pair = a.chunk[i][d];
      a.chunk[i][d] = watched(w, pair);
    }
}
struct PlaceFragments {
  u32 offset[SUBSTEPS];  // byte offset in an LDS buffer
};

DEVICE PlaceFragments place_fragments(u32 lane, u32 wave_m) {
  PlaceFragments p;
  const u32 row = lane % MFMA, half = lane / MFMA;
#pragma unroll
  for (int s = 0; s < SUBSTEPS; ++s)
    p.offset[s] = (wave_m * WAVE_M + row) * A_PITCH + (((2 * s + half) ^ (row & 7)) << 4);
  return p;
}

// Of 32 of A's rows from row `row` on: the lane's part of 16 of K, 8 numbers.
DEVICE void load_row(Operand (&quad)[2], Lds buffer, u32 offset, int row) {
  const u32x4 x = *at<u32x4>(buffer, offset + row * (MFMA * A_PITCH));
  const u32x2 low = {x[0], x[1]}, high = {x[2], x[3]};
  quad[0] = bits<Operand>(low);
  quad[1] = bits<Operand>(high);
}

// ---- W: memory -> registers ------------------------------------------------------------------------------------
typedef u32x2 ScaleBytes;  // a column's scales of a whole brick

struct Weights {
  u32x2 codes[COLUMNS][2];  // a pair of dwords of each of the lane's two quads
  ScaleBytes scales[COLUMNS];
};

// HALF: which half of the brick.
template <int HALF> DEVICE void load_weights(Weights& x, Stream& w, Stream& s, u32 codes, u32 scales) {
#pragma unroll
  for (int j = 0; j < COLUMNS; ++j) {
#pragma unroll
    for (int q = 0; q < 2; ++q) x.codes[j][q] = load_b64(w, codes + j * 2048 + q * 256 + HALF * 8);
    x.scales[j] = load_b64(s, scales + j * 256);
  }
  if (HALF == 1) {
    advance(w);
    advance(s);
  }
}

// Dequantization depends on nothing but the load, and compilers hoist it there, with the wait that it needs. Tying the
// registers at the point of use, all in one statement, keeps the loads in flight until then and makes one wait of them.
DEVICE void pin(Weights& x) {
  asm volatile(""
               : "+v"(x.codes[0][0]), "+v"(x.codes[0][1]), "+v"(x.scales[0])
  );
}

// ---- the product -----------------------------------------------------------------------------------------------
// What a lane gives to the matrix instructions for 16 of K: of its half, 8 numbers of each row.
struct Fragments {
  Operand quad[ROWS][2];
};

DEVICE void load_fragments(Fragments& f, Lds buffer, u32 offset) {
#pragma unroll
  for (int i = 0; i < ROWS; ++i) load_row(f.quad[i], buffer, offset, i);
}

// Scaled weights of 16 of K, as the matrix instructions take them.
struct Scaled {
  Operand quad[COLUMNS][2];
};

template <int HALF> DEVICE void convert_scales(const Weights& w, Scales (&scales)[COLUMNS]) {
#pragma unroll
  for (int j = 0; j < COLUMNS; ++j) scales[j] = convert<HALF>(w.scales[j]);
}

template <int SUB> DEVICE void scale_weights(Scaled& y, const Weights& w, const Scales (&scales)[COLUMNS], const Masks& mask) {
#pragma unroll
  for (int j = 0; j < COLUMNS; ++j)
#pragma unroll
    for (int q = 0; q < 2; ++q) {
      const u32 even = w.codes[j][q][0], odd = w.codes[j][q][1];
      y.quad[j][q] = dequantize<SUB>(even, odd, scales[j], mask);
    }
}

DEVICE void multiply(Accumulator (&sum)[ROWS][COLUMNS], const Fragments& a, const Scaled& w) {
#pragma unroll
  for (int q = 0; q < 2; ++q)
#pragma unroll
    for (int i = 0; i < ROWS; ++i)
#pragma unroll
      for (int j = 0; j < COLUMNS; ++j) sum[i][j] = multiply_add(a.quad[i][q], w.quad[j][q], sum[i][j]);
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
  u32x4 ids;
  u32x4 experts;
  u32x4 valid;
  u32x4 route;
  u32 tokens;
  u32 topk;
  u32 slots;
  u32 block;
  u32 stack;
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
constexpr u32 BIAS = 1, RESIDUAL = 2, SILU = 4, GELU = 8, GELU_TANH = 16, SWIGLU = 32, ROUTED = 64;

struct Epilogue {
  u32 options;
  Resource bias, residual;
  u32 ldr, N;
  bool whole;  // four neighbours are all inside or all outside, and aligned
};

DEVICE Epilogue epilogue_of(u32 options, LateArguments late, u32 N, u32 ldc, u32 expert) {
  const u32x4 bias = of_expert(late->bias, expert), residual = late->residual;
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
DEVICE void finish_four(float (&y)[4], const Epilogue& e, Resource c, u32 row, u32 n, u32 ldc, float weight) {
  if (e.options & BIAS) add<4>(y, e.bias, 0, n, e.N, e.whole);
  activate(y, e.options);
  if (e.options & SWIGLU) {
    y[0] = y[0] * sigmoid(y[0]) * y[1];
    y[1] = y[2] * sigmoid(y[2]) * y[3];
    if (e.options & ROUTED) y[0] *= weight, y[1] *= weight;
    const u32 half = n / 2, columns = e.N / 2;
    if (e.options & RESIDUAL) add<2>(y, e.residual, row * e.ldr * 2, half, columns, e.whole);
#pragma unroll
    for (int i = 0; i < 2; ++i) store_b16(round(y[i]), c, half + i < columns ? (row * ldc + half + i) * 2 : OUT_OF_RANGE);
  } else {
    if (e.options & ROUTED) {
#pragma unroll
      for (int i = 0; i < 4; ++i) y[i] *= weight;
    }
    if (e.options & RESIDUAL) add<4>(y, e.residual, row * e.ldr * 2, n, e.N, e.whole);
    if (e.whole) {
      store_four<true>(y, c, row * ldc * 2, n, e.N);
    } else {
      store_four<false>(y, c, row * ldc * 2, n, e.N);
    }
  }
}

// ---- C ---------------------------------------------------------------------------------------------------------
// Partial sums of a slice in the workspace: f32 [ROWS][COLUMNS][4][THREADS][4], from byte `first` on.
DEVICE void leave_sums(const Accumulator (&sum)[ROWS][COLUMNS], Resource p, u32 first, u32 thread) {
#pragma unroll
  for (int i = 0; i < ROWS; ++i)
#pragma unroll
    for (int j = 0; j < COLUMNS; ++j)
#pragma unroll
      for (int four = 0; four < 4; ++four) {
        const Accumulator& x = sum[i][j];
        const f32x4 part = {x[four * 4], x[four * 4 + 1], x[four * 4 + 2], x[four * 4 + 3]};
        store_b128(bits<u32x4>(part), p, first + (((i * COLUMNS + j) * 4 + four) * THREADS + thread) * 16);
      }
}

// The sum of all slices, in their order. pitch: bytes from a slice to the next. AHEAD blocks of 64 bytes a lane are on their
// way at once; the last are past the last slice and for nothing.
DEVICE void add_sums(Accumulator (&sum)[ROWS][COLUMNS], Resource p, u32 first, u32 pitch, u32 slices, u32 thread) {
  constexpr int BLOCKS = ROWS * COLUMNS, AHEAD = BLOCKS < 4 ? BLOCKS : 4;
  u32x4 part[AHEAD][4];
  const u32 lane = first + thread * 16;
#pragma unroll
  for (int b = 0; b < AHEAD; ++b)
#pragma unroll
    for (int four = 0; four < 4; ++four) part[b][four] = load_b128(p, lane + (b * 4 + four) * (THREADS * 16));
#pragma unroll
  for (int b = 0; b < BLOCKS; ++b) sum[b / COLUMNS][b % COLUMNS] = (Accumulator)0.0f;
#pragma unroll 1
  for (u32 slice = 0; slice < slices; ++slice) {
#pragma unroll
    for (int b = 0; b < BLOCKS; ++b) {
      Accumulator& total = sum[b / COLUMNS][b % COLUMNS];
      const int next = (b + AHEAD) % BLOCKS;
      const u32 place = lane + (slice + (b + AHEAD) / BLOCKS) * pitch + next * (THREADS * 64);
#pragma unroll
      for (int four = 0; four < 4; ++four) {
        const f32x4 x = bits<f32x4>(part[b % AHEAD][four]);
#pragma unroll
        for (int e = 0; e < 4; ++e) total[four * 4 + e] += x[e];
        part[b % AHEAD][four] = load_b128(p, place + four * (THREADS * 16));
      }
      keep_order();
    }
  }
}

// Turns 4 x 4 numbers in four neighbouring lanes: element e of lane q becomes element q of lane e.
template <int PATTERN> DEVICE void exchange(float& low, float& high, bool upper) {
  const int sent = bits<int>(upper ? low : high);
  const float got = bits<float>(__builtin_amdgcn_mov_dpp(sent, PATTERN, 0xf, 0xf, true));
  low = upper ? got : low;
  high = upper ? high : got;
}

DEVICE void turn(float (&y)[4], u32 lane) {
  constexpr int SWAP_TWO = 0x4e, SWAP_ONE = 0xb1;  // quad_perm: lanes 2 3 0 1, lanes 1 0 3 2
  exchange<SWAP_TWO>(y[0], y[2], lane & 2);
  exchange<SWAP_TWO>(y[1], y[3], lane & 2);
  exchange<SWAP_ONE>(y[0], y[1], lane & 1);
  exchange<SWAP_ONE>(y[2], y[3], lane & 1);
}

// The wave's part of C from row m and column n on. A lane has four rows of one column, and stores four columns of one
// row. The power of two that dequantization left comes last if it is large, and first if it is small: the other way the product
// with outer could leave f32 where the result does not.
DEVICE float result(float sum, float outer) { return sum * 0x1.0000000000000p+0f * outer * 0x1.0000000000000p+0f; }

template <bool WHOLE>
DEVICE void store_c(const Accumulator (&sum)[ROWS][COLUMNS], Resource o, Resource c, u32 m, u32 n, u32 lane, u32 N,
                    u32 ldc, Lds targets) {
#pragma unroll
  for (int j = 0; j < COLUMNS; ++j) {
    const float outer = bits<float>(load_b32(o, (n + j * MFMA + lane % MFMA) * 4));
    const u32 column = n + j * MFMA + lane % MFMA / 4 * 4;
#pragma unroll
    for (int i = 0; i < ROWS; ++i)
#pragma unroll
      for (int four = 0; four < 4; ++four) {
        const u32 row = *at<u32>(targets, (m + i * MFMA + four * 8 + lane / MFMA * 4 + lane % 4) * 8);
        float y[4];
#pragma unroll
        for (int e = 0; e < 4; ++e) y[e] = result(sum[i][j][four * 4 + e], outer);
        turn(y, lane);
        store_four<WHOLE>(y, c, row * ldc * 2, column, N);
      }
  }
}
// The same with an epilogue, which is long: results of 32 x 32 go through LDS, so that it stands in a loop and not behind every four.
DEVICE void finish_c(const Accumulator (&sum)[ROWS][COLUMNS], Resource o, Resource c, Lds place, const Epilogue& epilogue,
                     u32 m, u32 n, u32 lane, u32 ldc, Lds targets) {
#pragma unroll
  for (int j = 0; j < COLUMNS; ++j) {
    const float outer = bits<float>(load_b32(o, (n + j * MFMA + lane % MFMA) * 4));
#pragma unroll
    for (int i = 0; i < ROWS; ++i) {
#pragma unroll
      for (int e = 0; e < 16; ++e)
        *at<float>(place, ((e / 4 * 8 + lane / MFMA * 4 + e % 4) * MFMA + lane % MFMA) * 4) = result(sum[i][j][e], outer);
#pragma unroll 1
      for (u32 row = lane / 8; row < MFMA; row += 8) {
        const f32x4 four = *at<f32x4>(place, (row * MFMA + lane % 8 * 4) * 4);
        float y[4] = {four[0], four[1], four[2], four[3]};
        const u32x2 target = *at<u32x2>(targets, (m + i * MFMA + row) * 8);
        const u32 to = target[0], weight = target[1];
        finish_four(y, epilogue, c, to, n + j * MFMA + lane % 8 * 4, ldc, bits<float>(weight));
      }
    }
  }
}

extern "C" __global__
    __attribute__((amdgpu_flat_work_group_size(256, 256), amdgpu_waves_per_eu(2)))
void grouped_nvfp4_fp16__gfx90a_m64n128k64_w1x4x1(u32x4 a, u32x4 w, u32x4 s, u32x4 o, u32x4 c, u32x4 p, u32x4 t, u32 m, u32 n, u32 k, u32 lda, u32 ldc, u32 slices, u32x4 bias, u32x4 residual, u32 ldr, u32 options, u32x4 ids, u32x4 experts, u32x4 valid, u32x4 route, u32 tokens, u32 topk, u32 slots, u32 block, u32 stack) {
  __shared__ __attribute__((aligned(128))) char lds_storage[16896];
  const Lds lds = (Lds)lds_storage;
  const u32 N = n, K = k, pitch = lda;  // of A
  const u32 thread = __builtin_amdgcn_workitem_id_x(), lane = thread % 64;
  const u32 wave = __builtin_amdgcn_readfirstlane(thread / 64);
  const u32 wave_n = wave % WAVES_N, wave_m = wave / WAVES_N;
  const u32 m0 = __builtin_amdgcn_workgroup_id_y() * TILE_M;
  const u32 n0 = __builtin_amdgcn_workgroup_id_x() * TILE_N + wave_n * WAVE_N;

  // Whose rows these are. Nothing is to do past the last sorted row, for an expert that is not here, and for padding alone.
  const u32 expert = uniform(experts, m0 / block), counted = uniform(valid, 0);
  Sorted sorted = {resource(ids), counted < m ? counted : m, tokens, topk};
  if (expert >= stack || !any_row(sorted, m0, lane)) return;
  w = of_expert(w, expert);
  s = of_expert(s, expert);

  // This workgroup's slice of K.
  const u32 slice = __builtin_amdgcn_workgroup_id_z(), units = (K + UNIT - 1) / UNIT;
  const u32 share = (units + slices - 1) / slices * UNIT, begin = slice * share;
  const u32 end = begin + share < K ? begin + share : K;
  // Whether there is an epilogue, in the highest bit of the number of slices. Compilers read an argument where it is used, and at its
  // end every wave would wait for it; a scalar register more for so long is one that some kernels do not have.
  constexpr u32 FINISHED = 1u << 31;
  u32 slices_and = slices | ((options + (FINISHED - 1)) & FINISHED);
  asm volatile("" : "+s"(slices_and));

  // A brick row along N is ceil(N/16) bricks of 1024 bytes of codes and 128 of scales.
  const u32 tiles_n = (N + 15) / 16, brick = begin / BRICK_K, bricks = (end + BRICK_K - 1) / BRICK_K;
  const u32 codes = lane % 32 / 16 * 1024 + lane / 32 * 512 + lane % 16 * 16, scales = lane % 32 * 8;
  const Masks mask = masks();
  const PlaceA place = place_a(thread, pitch, sorted, m0, slots);
  const PlaceFragments fragments = place_fragments(lane, wave_m);

  Accumulator sum[ROWS][COLUMNS];
#pragma unroll
  for (int i = 0; i < ROWS; ++i)
#pragma unroll
    for (int j = 0; j < COLUMNS; ++j) sum[i][j] = (Accumulator)0.0f;

  Watch seen;
#pragma unroll 1
  for (bool again = false;; again = true) {
    asm volatile("" : "+s"(seen.normal), "+s"(seen.factor));  // else compilers make a loop for either pass
  Stream of_a = stream(a, begin * 2, ~0u, TILE_K * 2);
  Stream of_codes = stream(w, (brick * tiles_n + n0 / 16) * 1024, bricks * tiles_n * 1024, tiles_n * 1024);
  Stream of_scales = stream(s, (brick * tiles_n + n0 / 16) * 128, bricks * tiles_n * 128,
                            tiles_n * 128);
  // Loads return in order, so the order in which they are asked for decides what a wait drains. It is the loop's from
  // the start.
  StagedA first_a, ahead[A_AHEAD];
  Weights ring[STAGES];
  load_a(first_a, of_a, place, end - begin);
  keep_order();
  load_weights<0>(ring[0], of_codes, of_scales, codes, scales);
  keep_order();
  load_weights<1>(ring[1], of_codes, of_scales, codes, scales);
  keep_order();
  load_weights<0>(ring[2], of_codes, of_scales, codes, scales);
  keep_order();
  load_a(ahead[1], of_a, place, end - begin - 1 * TILE_K);
  keep_order();
  load_weights<1>(ring[3], of_codes, of_scales, codes, scales);
  keep_order();
  load_a(ahead[0], of_a, place, end - begin - 2 * TILE_K);
  keep_order();
  watch_a(first_a, seen);
  store_a(first_a, lds, place);
  synchronize();
  Fragments x[2];
  Scaled y[2];
  Scales scale[COLUMNS];
  load_fragments(x[0], lds, fragments.offset[0]);
  pin(ring[0]);
  convert_scales<0>(ring[0], scale);
  scale_weights<0>(y[0], ring[0], scale, mask);

  // Straight unrolling over the stages keeps every register set and LDS buffer in a fixed role. Stages past K multiply
  // zeros.
#pragma unroll 1
  for (u32 k0 = begin; k0 < end; k0 += STAGES * TILE_K) {
    {
      // Step 0: at its beginning operands of its first sub-step are there, and the A of the next is on its way.
      keep_order();
      StagedA& staged = ahead[1];
      watch_a(staged, seen);
      load_fragments(x[1], lds + 0 * A_BYTES, fragments.offset[1]);
      scale_weights<1>(y[1], ring[0], scale, mask);
      multiply(sum, x[0], y[0]);
      mix<2 * ROWS * COLUMNS, ROWS, 0, 20>();
      keep_order();
      store_a(staged, lds + 1 * A_BYTES, place);
      load_fragments(x[0], lds + 0 * A_BYTES, fragments.offset[2]);
      scale_weights<2>(y[0], ring[0], scale, mask);
      multiply(sum, x[1], y[1]);
      mix<2 * ROWS * COLUMNS, ROWS + A_LOADS, 0, 6>();
      keep_order();
      load_a(staged, of_a, place, end - k0 - (1 + A_AHEAD) * TILE_K);
      load_fragments(x[1], lds + 0 * A_BYTES, fragments.offset[3]);
      scale_weights<3>(y[1], ring[0], scale, mask);
      multiply(sum, x[0], y[0]);
      mix<2 * ROWS * COLUMNS, ROWS, A_LOADS, 6>();
      keep_order();
      // The last sub-step hides the barrier's wake: behind it the next step's operands are there to be read.
      synchronize();
      keep_order();
      pin(ring[1]);
      load_fragments(x[0], lds + 1 * A_BYTES, fragments.offset[0]);
      convert_scales<1>(ring[1], scale);
      scale_weights<0>(y[0], ring[1], scale, mask);
      load_weights<0>(ring[0], of_codes, of_scales, codes, scales);
      multiply(sum, x[1], y[1]);
      mix<2 * ROWS * COLUMNS, ROWS, W_LOADS, 6>();

    }
    {
      // Step 1: at its beginning operands of its first sub-step are there, and the A of the next is on its way.
      keep_order();
      StagedA& staged = ahead[0];
      watch_a(staged, seen);
      load_fragments(x[1], lds + 1 * A_BYTES, fragments.offset[1]);
      scale_weights<1>(y[1], ring[1], scale, mask);
      multiply(sum, x[0], y[0]);
      mix<2 * ROWS * COLUMNS, ROWS, 0, 20>();
      keep_order();
      store_a(staged, lds + 0 * A_BYTES, place);
      load_fragments(x[0], lds + 1 * A_BYTES, fragments.offset[2]);
      scale_weights<2>(y[0], ring[1], scale, mask);
      multiply(sum, x[1], y[1]);
      mix<2 * ROWS * COLUMNS, ROWS + A_LOADS, 0, 6>();
      keep_order();
      load_a(staged, of_a, place, end - k0 - (2 + A_AHEAD) * TILE_K);
      load_fragments(x[1], lds + 1 * A_BYTES, fragments.offset[3]);
      scale_weights<3>(y[1], ring[1], scale, mask);
      multiply(sum, x[0], y[0]);
      mix<2 * ROWS * COLUMNS, ROWS, A_LOADS, 6>();
      keep_order();
      // The last sub-step hides the barrier's wake: behind it the next step's operands are there to be read.
      synchronize();
      keep_order();
      pin(ring[2]);
      load_fragments(x[0], lds + 0 * A_BYTES, fragments.offset[0]);
      convert_scales<0>(ring[2], scale);
      scale_weights<0>(y[0], ring[2], scale, mask);
      load_weights<1>(ring[1], of_codes, of_scales, codes, scales);
      multiply(sum, x[1], y[1]);
      mix<2 * ROWS * COLUMNS, ROWS, W_LOADS, 6>();

    }
    {
      // Step 2: at its beginning operands of its first sub-step are there, and the A of the next is on its way.
      keep_order();
      StagedA& staged = ahead[1];
      watch_a(staged, seen);
      load_fragments(x[1], lds + 0 * A_BYTES, fragments.offset[1]);
      scale_weights<1>(y[1], ring[2], scale, mask);
      multiply(sum, x[0], y[0]);
      mix<2 * ROWS * COLUMNS, ROWS, 0, 20>();
      keep_order();
      store_a(staged, lds + 1 * A_BYTES, place);
      load_fragments(x[0], lds + 0 * A_BYTES, fragments.offset[2]);
      scale_weights<2>(y[0], ring[2], scale, mask);
      multiply(sum, x[1], y[1]);
      mix<2 * ROWS * COLUMNS, ROWS + A_LOADS, 0, 6>();
      keep_order();
      load_a(staged, of_a, place, end - k0 - (3 + A_AHEAD) * TILE_K);
      load_fragments(x[1], lds + 0 * A_BYTES, fragments.offset[3]);
      scale_weights<3>(y[1], ring[2], scale, mask);
      multiply(sum, x[0], y[0]);
      mix<2 * ROWS * COLUMNS, ROWS, A_LOADS, 6>();
      keep_order();
      // The last sub-step hides the barrier's wake: behind it the next step's operands are there to be read.
      synchronize();
      keep_order();
      pin(ring[3]);
      load_fragments(x[0], lds + 1 * A_BYTES, fragments.offset[0]);
      convert_scales<1>(ring[3], scale);
      scale_weights<0>(y[0], ring[3], scale, mask);
      load_weights<0>(ring[2], of_codes, of_scales, codes, scales);
      multiply(sum, x[1], y[1]);
      mix<2 * ROWS * COLUMNS, ROWS, W_LOADS, 6>();

    }
    {
      // Step 3: at its beginning operands of its first sub-step are there, and the A of the next is on its way.
      keep_order();
      StagedA& staged = ahead[0];
      watch_a(staged, seen);
      load_fragments(x[1], lds + 1 * A_BYTES, fragments.offset[1]);
      scale_weights<1>(y[1], ring[3], scale, mask);
      multiply(sum, x[0], y[0]);
      mix<2 * ROWS * COLUMNS, ROWS, 0, 20>();
      keep_order();
      store_a(staged, lds + 0 * A_BYTES, place);
      load_fragments(x[0], lds + 1 * A_BYTES, fragments.offset[2]);
      scale_weights<2>(y[0], ring[3], scale, mask);
      multiply(sum, x[1], y[1]);
      mix<2 * ROWS * COLUMNS, ROWS + A_LOADS, 0, 6>();
      keep_order();
      load_a(staged, of_a, place, end - k0 - (4 + A_AHEAD) * TILE_K);
      load_fragments(x[1], lds + 1 * A_BYTES, fragments.offset[3]);
      scale_weights<3>(y[1], ring[3], scale, mask);
      multiply(sum, x[0], y[0]);
      mix<2 * ROWS * COLUMNS, ROWS, A_LOADS, 6>();
      keep_order();
      // The last sub-step hides the barrier's wake: behind it the next step's operands are there to be read.
      synchronize();
      keep_order();
      pin(ring[0]);
      load_fragments(x[0], lds + 0 * A_BYTES, fragments.offset[0]);
      convert_scales<0>(ring[0], scale);
      scale_weights<0>(y[0], ring[0], scale, mask);
      load_weights<1>(ring[3], of_codes, of_scales, codes, scales);
      multiply(sum, x[1], y[1]);
      mix<2 * ROWS * COLUMNS, ROWS, W_LOADS, 6>();

    }
  }

    if (again) {
#pragma unroll
      for (int i = 0; i < ROWS; ++i)
#pragma unroll
        for (int j = 0; j < COLUMNS; ++j) sum[i][j] *= 1.0f / RESCUE;
    }
    if (again || !met_subnormal(seen, lds, wave)) break;
    rescue(seen);
#pragma unroll
    for (int i = 0; i < ROWS; ++i)
#pragma unroll
      for (int j = 0; j < COLUMNS; ++j) sum[i][j] *= RESCUE;
  }
  // Arguments that only what follows needs are read here: held from the start they are more than there are scalar registers.
  const LateArguments late = late_arguments();
  c = late->c, p = late->p, t = late->t, route = late->route, m = late->m, ldc = late->ldc, options = late->options;
  o = of_expert(late->o, expert);
  sorted.ids = resource(late->ids), sorted.tokens = late->tokens, sorted.topk = late->topk;

  const Resource rc = resource(c);
  u32 plain = slices_and < FINISHED;
  asm volatile("" : "+s"(plain));  // else compilers turn the test round, and those without an epilogue jump over it
  slices = slices_and & ~FINISHED;

  if (slices > 1) {
    const u32 tiles_x = (N + TILE_N - 1) / TILE_N, tiles = (m + TILE_M - 1) / TILE_M * tiles_x;
    const u32 tile = __builtin_amdgcn_workgroup_id_y() * tiles_x + __builtin_amdgcn_workgroup_id_x();
    const Resource rp = resource(p);
    leave_sums(sum, rp, (slice * tiles + tile) * C_BYTES, thread);
    if (!last_to_arrive(t, tile, slices, lds, thread)) return;
    add_sums(sum, rp, tile * C_BYTES, tiles * C_BYTES, slices, thread);
  }
  const Resource ro = resource(o);
  // Where the tile's rows go, and their routing weights, in LDS.
  const Lds targets = lds + 16384;
  synchronize();  // nobody reads A any more
  if (thread < TILE_M) {
    const Target target = target_of(sorted, resource(route), m0 + thread);
    *at<u32x2>(targets, thread * 8) = u32x2{target.row, bits<u32>(target.weight)};
  }
  synchronize();
  if (plain == 0) {
    finish_c(sum, ro, rc, lds + wave * (MFMA * MFMA * 4), epilogue_of(options, late_arguments(), N, ldc, expert), wave_m * WAVE_M, n0, lane, ldc, targets);
    return;
  }
  if (((N | ldc) & 3) == 0) {
    store_c<true>(sum, ro, rc, wave_m * WAVE_M, n0, lane, N, ldc, targets);
  } else {
    store_c<false>(sum, ro, rc, wave_m * WAVE_M, n0, lane, N, ldc, targets);
  }
}
