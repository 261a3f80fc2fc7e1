// grouped_nvfp4_bf16__gfx942_m16n64k512_w1x2x2
//
// C[r,N] = (A[r,K] x dequant(W[expert of r])[N,K]^T) * outer[N] for sorted rows r, nvfp4 weights, bf16 A and C, f32 sums.
//
// For few rows, where reading the weights is the work. A workgroup of 2 x 2 waves (n, k) makes 16 x 64 of C from
// one slice of K. A of 512 of K at a time lies in LDS, in the order of the matrix operands; between two chunks there is
// no barrier. Weights go from memory straight to registers, 2 stages in flight a wave. Their codes are not multiplied by
// their scales: the matrix unit takes them as they are, and the sums of a scale group are scaled.
//
// Registers a lane: 8 accumulators, 2 x 12 weights and scales in flight
// LDS: 16384 bytes of A, then 8192 of sums in the same place
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

typedef i16x4 Operand;                 // four values of K
typedef f32x4 Accumulator;         // 16 x 16 over the wave

// Weights are the first operand, so that a lane's accumulators run along n and store side by side.
DEVICE Accumulator multiply_add(Operand weights, Operand activations, Accumulator sum) {
  return __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(weights, activations, sum, 0, 0, 0);
}

// To nearest even; a NaN stays one whatever its payload.
DEVICE u32 round(float x) {
  const u32 b = bits<u32>(x), even = b + 0x7fffu + ((b >> 16) & 1u), quiet = b | 0x00400000u;
  return (__builtin_unpredictable(__builtin_isnan(x)) ? quiet : even) >> 16;
}

constexpr int BRICK_K = 128;                  // K of one brick of packed weights
constexpr int TILE_M = 16, TILE_N = 64, TILE_K = 512;
constexpr int WAVES_N = 2, WAVES_K = 2;
constexpr int WAVE_N = TILE_N / WAVES_N;
constexpr int ROWS = 1, COLUMNS = 2;          // matrix instructions across a wave's part
constexpr int STAGES = 2;                    // weight stages in flight
constexpr int STAGE_K = WAVES_K * BRICK_K;         // K of one weight stage of the workgroup
constexpr int TURN_K = STAGES * STAGE_K;           // and of one turn of the loop
constexpr int SCALES = 8;                    // of a column and brick that a lane uses
constexpr int PARTS = 4;                     // scalings of SPAN pairs of dwords
constexpr int SPAN = 1;                      // pairs of dwords that are unpacked together
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
typedef u32x2 ScaleBytes;  // a lane's scales of one column and brick

struct Weights {
  u32x4 codes[COLUMNS];
  ScaleBytes scales[COLUMNS];
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

DEVICE void load_weights(Weights& x, Stream& w, Stream& s, u32 codes, u32 scales) {
  const Resource rw = next(w), rs = next(s);
#pragma unroll
  for (int j = 0; j < COLUMNS; ++j) {
    x.codes[j] = load_b128(rw, codes + j * 1024);
    x.scales[j] = load_b64(rs, scales + j * 128);
  }
}

// See streamed_w.hip.j2: holds back what depends on the loads until here.
DEVICE void pin(Weights& x) {
  asm volatile(""
               : "+v"(x.codes[0]), "+v"(x.scales[0])
               , "+v"(x.codes[1]), "+v"(x.scales[1])
  );
}

// ---- A: memory -> LDS --------------------------------------------------------------------------------------------
// LDS holds, for every 32 of K and every 16 rows, what lane 16 * quad + row gives to the matrix instructions: 16 bytes,
// k = 16 g + 4 quad + j with g slowest.
constexpr int A_PIECES = TILE_M * TILE_K / 8;                          // of 16 bytes
constexpr int A_LOADS = (A_PIECES + THREADS - 1) / THREADS;

// bf16 codes are so small (2^-126) that products with them would leave f32. A is therefore brought up by 2^63, which
// serves rows whose largest number is from 2^-40 to 2^64. Others are rare: a workgroup that met one goes over K a
// second time, with another exponent for such rows. The exponent of a row goes with its sums.
constexpr int WIDENING = 63;
constexpr u32 ROWS_PLACE = 8192;  // in LDS, past the sums: a dword for each row of A
constexpr float TINY = 0x1.0000000000000p+23f, LARGE = 0x1.0000000000000p+127f;  // the limits, times 2^WIDENING

// By what power of two a row is brought up, by its largest |a| times 2^WIDENING.
DEVICE int widening(float largest) { return largest >= LARGE ? 0 : largest < TINY && largest > 0 ? 126 : WIDENING; }

// What a thread knows of its row of A. largest: of |a| times 2^exponent; NaN does not count.
struct Row {
  int exponent = WIDENING;
  float largest = 0.0f;
};

DEVICE u32 widened(u32 pair, Row& row) {
  const float factor = __builtin_amdgcn_ldexpf(1.0f, row.exponent);
  const float low = bits<float>(pair << 16) * factor, high = bits<float>(pair & 0xffff0000u) * factor;
  row.largest = __builtin_fmaxf(row.largest, __builtin_fmaxf(__builtin_fabsf(low), __builtin_fabsf(high)));
  return __builtin_amdgcn_perm(bits<u32>(high), bits<u32>(low), 0x07060302u);
}

// Brings what the threads know of their rows together in LDS, where A was, and gives each row its exponent. True for the
// workgroup if one differs from what was assumed.
DEVICE bool settle(Row& row, Lds lds, u32 thread) {
  const Lds rows = lds + ROWS_PLACE;
  synchronize();
  if (thread < 16) *at<u32>(rows, thread * 4) = 0;
  synchronize();
  // Bits of numbers from zero on are in their order.
  __hip_atomic_fetch_max(at<u32>(rows, thread % TILE_M * 4), bits<u32>(row.largest), __ATOMIC_RELAXED,
                         __HIP_MEMORY_SCOPE_WORKGROUP);
  synchronize();
  row.exponent = widening(*at<float>(rows, thread % TILE_M * 4));
  const float any = *at<float>(rows, thread % 16 * 4);
  synchronize();  // A may come there again
  return __builtin_amdgcn_ballot_w64(widening(any) != WIDENING) != 0;
}

// The rows' exponents where the epilogue finds them.
DEVICE void leave_exponents(const Row& row, Lds lds, u32 thread) {
  if (thread < TILE_M) *at<int>(lds, ROWS_PLACE + thread * 4) = row.exponent;
}

// The chunk of A from k0 on; zeros from `end` on. Rows past M are past the buffer.
DEVICE void stage_a(Lds lds, Resource a, u32 thread, u32 row_offset, u32 k0, u32 end, Row& state) {
  const u32 row = thread % TILE_M, first = thread / TILE_M;
  u32x4 piece[A_LOADS];
#pragma unroll
  for (int i = 0; i < A_LOADS; ++i) {
    const u32 at_k = k0 + (first + i * (THREADS / TILE_M)) * 8;
    piece[i] = load_b128(a, at_k < end ? row_offset + at_k * 2 : OUT_OF_RANGE);
  }
  synchronize();  // nobody reads the chunk before any more
#pragma unroll
  for (int i = 0; i < A_LOADS; ++i) {
    const u32 index = first + i * (THREADS / TILE_M);
    const u32 c = index / 4, g = index / 2 % 2, half = index % 2;
    const u32 lane_row = row % 16, block = row / 16;
    const u32 offset = ((c * ROWS + block) * 64 + half * 32 + lane_row) * 16 + g * 8;
    const u32 p0 = piece[i][0], p1 = piece[i][1], p2 = piece[i][2], p3 = piece[i][3];
    const u32x2 low = {widened(p0, state), widened(p1, state)};
    const u32x2 high = {widened(p2, state), widened(p3, state)};
    *at<u32x2>(lds, offset) = low;
    *at<u32x2>(lds, offset + 256) = high;
  }
  asm volatile("" : "+v"(state.largest));  // now: compilers would keep A in registers and look at it after the loop
  synchronize();
  keep_order();  // a weaker sched_barrier further on unties reads of LDS from the barrier (keep_vector_order)
}

// ---- codes -------------------------------------------------------------------------------------------------------
// The 16 codes of a pair of dwords (p: c even, q: c odd) as operands: code[c odd][g], each value times 2^-126.
struct Codes {
  u32x2 code[2][2];
};

DEVICE u32 rotate_right(u32 x, int bits) { return __builtin_amdgcn_alignbit(x, x, bits); }

// The bits of `a` where the mask has ones, of `b` elsewhere: v_bfi_b32. A mask that the compiler can see becomes two
// instructions.
DEVICE u32 select_bits(u32 mask, u32 a, u32 b) {
  asm("" : "+s"(mask));
  return b ^ (mask & (a ^ b));
}

// 16 instructions for 16 codes.
DEVICE Codes unpack(u32 p, u32 q) {
  constexpr u32 CODE = 0x81c081c0u;  // sign, two exponent bits, mantissa of two bf16
  const u32 rest = select_bits(0x60306030u, p, q >> 2);
  Codes x;
  x.code[0][0] = u32x2{p & CODE, rotate_right(p, 4) & CODE};
  x.code[0][1] = u32x2{(p << 6) & CODE, rotate_right(rest, 6) & CODE};
  x.code[1][0] = u32x2{q & CODE, rotate_right(q, 4) & CODE};
  x.code[1][1] = u32x2{(q << 6) & CODE, (rest << 4) & CODE};
  return x;
}


// ---- block scales ------------------------------------------------------------------------------------------------
// E4M3FN read as E4M3FNUZ, which has half the value; packing left no NaN (0x80).
template <int WORD> DEVICE void two_scales(u32 bytes, float& low, float& high) {
  typedef float f32x2 __attribute__((ext_vector_type(2)));
  const f32x2 two = __builtin_amdgcn_cvt_pk_f32_fp8((int)bytes, WORD);
  low = two[0];
  high = two[1];
}
// SCALES scales of one column in order of use.
DEVICE void convert_scales(const ScaleBytes& bytes, float (&scale)[SCALES]) {
  two_scales<0>(bytes[0], scale[0], scale[4]);
  two_scales<1>(bytes[0], scale[2], scale[6]);
  two_scales<0>(bytes[1], scale[1], scale[5]);
  two_scales<1>(bytes[1], scale[3], scale[7]);
}


// Vector and matrix instructions stay where they are; scalar ones (0x4) and LDS reads (0x100) may cross.
DEVICE void keep_vector_order() { __builtin_amdgcn_sched_barrier(0x104); }

// ---- the product -------------------------------------------------------------------------------------------------
// A sum over one scale group (or 1 of them, in as many row blocks), and its scale.
DEVICE void add_scaled(Accumulator& sum, Accumulator part, float scale) {
  typedef float f32x2 __attribute__((ext_vector_type(2)));
  const f32x2 two = {scale, scale}, p0 = {part[0], part[1]}, p1 = {part[2], part[3]};
  const f32x2 s0 = {sum[0], sum[1]}, s1 = {sum[2], sum[3]};
  const f32x2 low = __builtin_elementwise_fma(p0, two, s0), high = __builtin_elementwise_fma(p1, two, s1);
  sum = Accumulator{low[0], low[1], high[0], high[1]};
}

// A stage is worked through in turns: pairs of dwords, columns, rows. The sums of a turn are scaled only after the matrix
// unit has been given the next turn's, since the vector unit would wait for them.
constexpr int TURNS = 2 / SPAN * COLUMNS * ROWS;

struct Turn {
  Accumulator part[PARTS];
};

DEVICE void scale_turn(Accumulator (&sum)[ROWS][COLUMNS], int turn, const Turn& done, const float (&scale)[COLUMNS][SCALES]) {
  const int i = turn % ROWS, j = turn / ROWS % COLUMNS, first = turn / (ROWS * COLUMNS) * PARTS;
#pragma unroll
  for (int part = 0; part < PARTS; ++part) add_scaled(sum[i][j], done.part[part], scale[j][first + part]);
}

DEVICE Turn multiply_turn(const u32x4 (&x)[2 * SPAN], const Codes (&codes)[SPAN]) {
  Turn t;
  t.part[0] = (Accumulator)0.0f;
  t.part[0] = multiply_add(operand<0>(x[0]), bits<Operand>(codes[0].code[0][0]), t.part[0]);
  t.part[1] = (Accumulator)0.0f;
  t.part[1] = multiply_add(operand<1>(x[0]), bits<Operand>(codes[0].code[0][1]), t.part[1]);
  t.part[2] = (Accumulator)0.0f;
  t.part[2] = multiply_add(operand<0>(x[1]), bits<Operand>(codes[0].code[1][0]), t.part[2]);
  t.part[3] = (Accumulator)0.0f;
  t.part[3] = multiply_add(operand<1>(x[1]), bits<Operand>(codes[0].code[1][1]), t.part[3]);
  return t;
}

DEVICE void multiply_stage(Accumulator (&sum)[ROWS][COLUMNS], const Weights& w, Lds a) {
  float scale[COLUMNS][SCALES];
#pragma unroll
  for (int j = 0; j < COLUMNS; ++j) convert_scales(w.scales[j], scale[j]);
  Turn done[2];
#pragma unroll
  for (int half = 0; half < 2 / SPAN; ++half) {
    u32x4 x[ROWS][2 * SPAN];
#pragma unroll
    for (int c = 0; c < 2 * SPAN; ++c)
#pragma unroll
      for (int i = 0; i < ROWS; ++i) x[i][c] = *at<u32x4>(a, ((half * 2 * SPAN + c) * ROWS + i) * 1024);
#pragma unroll
    for (int j = 0; j < COLUMNS; ++j) {
      Codes codes[SPAN];
#pragma unroll
      for (int p = 0; p < SPAN; ++p) {
        const u32 even = w.codes[j][2 * (half * SPAN + p)], odd = w.codes[j][2 * (half * SPAN + p) + 1];
        codes[p] = unpack(even, odd);
      }
#pragma unroll
      for (int i = 0; i < ROWS; ++i) {
        const int turn = (half * COLUMNS + j) * ROWS + i;
        done[turn % 2] = multiply_turn(x[i], codes);
        if (turn > 0) scale_turn(sum, turn - 1, done[(turn - 1) % 2], scale);
        keep_vector_order();
      }
    }
  }
  scale_turn(sum, TURNS - 1, done[(TURNS - 1) % 2], scale);
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

DEVICE float widen(u32 half) { return bits<float>(half << 16); }
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

// A sum that slices exchange. Where A has large numbers it may leave f32 although the result does not: it is then kept
// down by 2^KEPT_DOWN, and its last bit says so.
constexpr int KEPT_DOWN = 40;

DEVICE u32 give(float sum, int exponent) {
  const bool down = exponent == 127;  // of a row of large numbers
  const u32 given = bits<u32>(__builtin_amdgcn_ldexpf(sum, down ? exponent - KEPT_DOWN : exponent));
  const u32 field = given & 0x7f800000u;  // of the exponent
  return (given & ~1u) | (down && field != 0 && field != 0x7f800000u ? 1u : 0u);
}

constexpr int TOGETHER = 8;  // slices whose sums are on their way at once

DEVICE void take(u32x4 given, f32x4& total, f32x4& large) {
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    const u32 word = given[e];
    if (word & 1) {
      large[e] += bits<float>(word);
    } else {
      total[e] += bits<float>(word);
    }
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
DEVICE void store_c(const f32x4 (&total)[C_TURNS], const int (&exponent)[C_TURNS], const f32x4 (&large)[C_TURNS], const Outer& outer, const Target (&target)[C_TURNS], u32 n0, u32 thread, u32 N, Store store) {
#pragma unroll
  for (int turn = 0; turn < C_TURNS; ++turn) {
    const u32 item = turn * THREADS + thread;
    const bool there = C_FOURS % THREADS == 0 || item < C_FOURS;
    const u32 column = there ? n0 + item % (TILE_N / 4) * 4 : N;  // past N nothing is stored
    float y[4];
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const u32 word = outer.four[turn][e];
      // Added before they are scaled: Inf of one and -Inf of the other would be no result.
      const float kept_down = large[turn][e] + __builtin_amdgcn_ldexpf(total[turn][e], -KEPT_DOWN);
      const bool any_large = large[turn][e] != 0;
      y[e] = scaled(any_large ? kept_down : total[turn][e], bits<float>(word), any_large ? KEPT_DOWN : exponent[turn]);
    }
    store(y, target[turn].row, column, target[turn].weight);
  }
}

extern "C" __global__
    __attribute__((amdgpu_flat_work_group_size(256, 256), amdgpu_waves_per_eu(4)))
void grouped_nvfp4_bf16__gfx942_m16n64k512_w1x2x2(u32x4 a, u32x4 w, u32x4 s, u32x4 o, u32x4 c, u32x4 p, u32x4 t, u32 m, u32 n, u32 k, u32 lda, u32 ldc, u32 slices, u32x4 bias, u32x4 residual, u32 ldr, u32 options, u32x4 ids, u32x4 experts, u32x4 valid, u32x4 route, u32 tokens, u32 topk, u32 slots, u32 block, u32 stack) {
  __shared__ __attribute__((aligned(128))) char lds_storage[16384];
  const Lds lds = (Lds)lds_storage;
  const u32 N = n, K = k, pitch = lda;  // of A
  u32 thread = __builtin_amdgcn_workitem_id_x(), lane = thread % 64;
  const u32 wave = __builtin_amdgcn_readfirstlane(thread / 64);
  const u32 wave_n = wave % WAVES_N, wave_k = wave / WAVES_N;
  const u32 m0 = __builtin_amdgcn_workgroup_id_y() * TILE_M, n0 = __builtin_amdgcn_workgroup_id_x() * TILE_N;

  // Whose rows these are. Nothing is to do past the last sorted row, for an expert that is not here, and for padding alone.
  const u32 expert = uniform(experts, m0 / block), counted = uniform(valid, 0);
  Sorted sorted = {resource(ids), counted < m ? counted : m, tokens, topk};
  if (expert >= stack || !any_row(sorted, m0, lane)) return;
  w = of_expert(w, expert);
  s = of_expert(s, expert);

  const u32 row_offset = offset_in_a(id_of(sorted, m0 + thread % TILE_M), topk, slots, lda);
  // This workgroup's slice of K.
  const u32 slice = __builtin_amdgcn_workgroup_id_z(), units = (K + STAGE_K - 1) / STAGE_K;
  const u32 share = (units + slices - 1) / slices * STAGE_K, begin = slice * share;
  const u32 end = begin + share < K ? begin + share : K;
  // Whether there is an epilogue, in the highest bit of the number of slices. Compilers read an argument where it is used, and at its
  // end every wave would wait for it; a scalar register more for so long is one that some kernels do not have.
  constexpr u32 FINISHED = 1u << 31;
  u32 slices_and = slices | ((options + (FINISHED - 1)) & FINISHED);
  asm volatile("" : "+s"(slices_and));

  // A brick row along N is ceil(N/16) bricks of 1024 bytes of codes and 128 of scales.
  const u32 tiles_n = (N + 15) / 16, tile_n = (n0 + wave_n * WAVE_N) / 16;
  const u32 brick = begin / BRICK_K + wave_k;
  const int past = (end + BRICK_K - 1) / BRICK_K, bricks = tile_n < tiles_n ? (past - (int)brick + WAVES_K - 1) / WAVES_K : 0;
  const u32 codes = lane * 16, scales = lane % 16 * 8;

  const Resource ra = resource(a);

  Accumulator sum[ROWS][COLUMNS];
  Row row;
  bool settled = false;
#pragma unroll 1
  for (;;) {
#pragma unroll
    for (int i = 0; i < ROWS; ++i)
#pragma unroll
      for (int j = 0; j < COLUMNS; ++j) sum[i][j] = (Accumulator)0.0f;

    const u32 place = brick * tiles_n + tile_n, rest = tiles_n - tile_n, step = WAVES_K * tiles_n;
    Stream of_codes = stream(w, place * 1024, rest * 1024, step * 1024, bricks);
    Stream of_scales = stream(s, place * 128, rest * 128, step * 128, bricks);
    Weights ring[STAGES];
#pragma unroll
    for (int i = 0; i < STAGES; ++i) {
      load_weights(ring[i], of_codes, of_scales, codes, scales);
      keep_order();
    }
#pragma unroll 1
    for (u32 chunk = begin; chunk < end; chunk += TILE_K) {
      stage_a(lds, ra, thread, row_offset, chunk, end, row);
      const u32 rest = end - chunk, depth = rest < TILE_K ? rest : TILE_K;
      Lds fragments = lds + wave_k * (BRICK_K / 32 * ROWS * 1024) + lane * 16;
#pragma unroll 1
      for (u32 done = 0; done < depth; done += TURN_K) {
#pragma unroll
        for (int i = 0; i < STAGES; ++i) {
          pin(ring[i]);
          multiply_stage(sum, ring[i], fragments + i * (STAGE_K / 32 * ROWS * 1024));
          keep_order();
          load_weights(ring[i], of_codes, of_scales, codes, scales);
          keep_order();
        }
        fragments += TURN_K / 32 * ROWS * 1024;
      }
    }
    if (settled || !settle(row, lds, thread)) break;
    settled = true;
  }
  // Arguments that only what follows needs are read here: held from the start they are more than there are scalar registers.
  const LateArguments late = late_arguments();
  c = late->c, p = late->p, t = late->t, route = late->route, m = late->m, ldc = late->ldc, options = late->options;
  o = of_expert(late->o, expert);
  sorted.ids = resource(late->ids), sorted.tokens = late->tokens, sorted.topk = late->topk;

  const Outer outer = load_outer(resource(o), n0, thread);
  const Resource rc = resource(c);
  Target target[C_TURNS];
#pragma unroll
  for (int turn = 0; turn < C_TURNS; ++turn) target[turn] = target_of(sorted, resource(route), m0 + (turn * THREADS + thread) / (TILE_N / 4));
  synchronize();  // nobody reads A any more
  leave_sums(sum, lds, wave_n, wave_k, lane);
  leave_exponents(row, lds, thread);
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
    const u32 item = turn * THREADS + thread;
    exponent[turn] = 127 - *at<int>(lds, ROWS_PLACE + item / (TILE_N / 4) % TILE_M * 4);
  }
  f32x4 large[C_TURNS] = {};  // sums of slices that were kept small
  u32 plain = slices_and < FINISHED;
  asm volatile("" : "+s"(plain));  // else compilers turn the test round, and those without an epilogue jump over it
  slices = slices_and & ~FINISHED;

  if (slices > 1) {
    const u32 tile = __builtin_amdgcn_workgroup_id_y() * ((N + TILE_N - 1) / TILE_N) + __builtin_amdgcn_workgroup_id_x();
    const u32 tiles = ((m + TILE_M - 1) / TILE_M) * ((N + TILE_N - 1) / TILE_N);
    const Resource rp = resource(p);
#pragma unroll
    for (int turn = 0; turn < C_TURNS; ++turn) {
      const u32 item = turn * THREADS + thread;
      u32x4 given;
#pragma unroll
      for (int e = 0; e < 4; ++e) given[e] = give(total[turn][e], exponent[turn]);
      if (C_FOURS % THREADS == 0 || item < C_FOURS) store_b128(given, rp, ((slice * tiles + tile) * C_FOURS + item) * 16);
    }
    if (!last_to_arrive(t, tile, slices, lds, thread)) return;
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
        for (int turn = 0; turn < C_TURNS; ++turn) take(given[i][turn], total[turn], large[turn]);
    }
  }
  if (plain == 0) {
    const Epilogue e = epilogue_of(options, late_arguments(), N, ldc, expert);
    store_c(total, exponent, large, outer, target, n0, thread, N,
            [&](float (&y)[4], u32 row, u32 column, float weight) __attribute__((always_inline)) { finish_four(y, e, rc, row, column, ldc, weight); });
    return;
  }
  if (((N | ldc) & 3) == 0) {
    store_c(total, exponent, large, outer, target, n0, thread, N,
            [&](float (&y)[4], u32 row, u32 column, float weight) __attribute__((always_inline)) { store_four<true>(y, rc, row * ldc * 2, column, N); });
  } else {
    store_c(total, exponent, large, outer, target, n0, thread, N,
            [&](float (&y)[4], u32 row, u32 column, float weight) __attribute__((always_inline)) { store_four<false>(y, rc, row * ldc * 2, column, N); });
  }
}
