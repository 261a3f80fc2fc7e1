"""Faults of grouped kernels."""

from __future__ import annotations

from .faults import (
    EPILOGUE,
    EXPERTS,
    EXPERTS_PREFILL,
    GROUPED,
    RESIDENT,
    RESIDENT_C,
    STREAMED,
    STREAMED_A,
    STREAMED_C,
    Fault,
)

GROUPED_FAULTS = [
    # which expert
    Fault("grouped: every block has the first expert", GROUPED, "uniform(experts, m0 / block)", "uniform(experts, 0)", EXPERTS),
    Fault("grouped: an expert for each tile", GROUPED, "m0 / block", "m0 / TILE_M", EXPERTS),
    Fault("grouped: experts past the last", GROUPED, "expert >= stack", "(int)expert < 0", EXPERTS),
    Fault("grouped: experts counted in 32 bits", GROUPED, "(u64)expert * words[2]", "(u64)(expert * words[2])", EXPERTS),
    Fault("grouped: no carry between experts", GROUPED, "(u32)(base >> 32), words[2]", "words[1], words[2]", EXPERTS),
    Fault("grouped: scales of the first expert", GROUPED, "s = of_expert(s, expert)", "s = of_expert(s, 0)", EXPERTS),
    Fault("grouped: outer scales of the first expert", GROUPED, "of_expert(late->o, expert)", "late->o", EXPERTS),
    Fault("grouped: bias of the first expert", EPILOGUE, "of_expert(late->bias, expert)", "late->bias", EXPERTS),
    # which rows
    Fault("grouped: rows that do not count", GROUPED, "counted < m ? counted : m", "m", EXPERTS),
    Fault("grouped: tokens that there are not", GROUPED, "(id & 0xffffffu) < s.tokens && ", "", EXPERTS),
    Fault("grouped: slots that there are not", GROUPED, " && id >> 24 < s.topk", "", EXPERTS),
    Fault("grouped: slots left out of rows of C", GROUPED, "(id & 0xffffffu) * topk + (id >> 24)", "(id & 0xffffffu) * topk", EXPERTS),
    Fault("grouped: rows of C by token", GROUPED, "(id & 0xffffffu) * topk + (id >> 24)", "(id & 0xffffffu) + (id >> 24)", EXPERTS),
    Fault("grouped: A has a row for each token only", GROUPED, "slots > 1 ? row_of_c(id, topk) : id & 0xffffffu", "id & 0xffffffu",
          EXPERTS),
    Fault("grouped: A has a row for each slot always", GROUPED, "slots > 1 ? row_of_c(id, topk) : id & 0xffffffu",
          "row_of_c(id, topk)", EXPERTS),
    Fault("grouped: row pitch of A twice too small", GROUPED, "row * lda * 2", "row * lda", EXPERTS),
    Fault("grouped: the tile's rows of A are not the tile's", RESIDENT, "id_of(sorted, m0 + thread % TILE_M)",
          "id_of(sorted, thread % TILE_M)", EXPERTS),
    Fault("grouped: no row counts unless the first wave has it", GROUPED, "first < TILE_M; first += 64", "first < 64; first += 64",
          EXPERTS_PREFILL),
    Fault("grouped: rows of C in the order of the tile", RESIDENT_C, '"target[turn].row"', '"turn"', EXPERTS),
    # the epilogue
    Fault("grouped: routing weights of the first rows", GROUPED, "load_b32(route, row * 4)", "load_b32(route, row % 16 * 4)", EXPERTS),
    Fault("grouped: no routing weight", EPILOGUE, "for (int i = 0; i < 4; ++i) y[i] *= weight;", "for (int i = 0; i < 4; ++i) y[i] *= 1;",
          EXPERTS),
    Fault("grouped: routing weight of the gate only", EPILOGUE, "y[0] *= weight, y[1] *= weight", "y[0] *= weight", EXPERTS),
    # the streamed loop
    Fault("grouped: streamed rows of A are not the tile's", STREAMED_A, "id_of(sorted, m0 + row + i * A_PASS)",
          "id_of(sorted, row + i * A_PASS)", EXPERTS_PREFILL),
    Fault("grouped: streamed rows of A are those of the first pass", STREAMED_A, "id_of(sorted, m0 + row + i * A_PASS)",
          "id_of(sorted, m0 + row)", EXPERTS_PREFILL),
    Fault("grouped: streamed targets of the first tile", STREAMED, "target_of(sorted, resource(route), m0 + thread)",
          "target_of(sorted, resource(route), thread)", EXPERTS_PREFILL),
    Fault("grouped: streamed targets of the first rows", STREAMED_C, "at<u32x2>(targets, (m + i * MFMA + row) * 8)",
          "at<u32x2>(targets, row * 8)", EXPERTS_PREFILL),
]  # fmt: skip
