// Tiles of 32 x 32 floats through LDS, one after the other in the same place: two barriers a tile.
KERNEL transpose(const float *in, float *out, u32 tiles) {
  SHARED static float tile[32][33];
  const u32 x = tid() & 31, y = tid() >> 5, first = wg() * tiles;
  for (u32 t = first; t < first + tiles; ++t) {
    for (u32 row = y; row < 32; row += 8) tile[row][x] = in[(t * 32 + row) * 32 + x];
    barrier();
    for (u32 row = y; row < 32; row += 8) out[(t * 32 + row) * 32 + x] = tile[x][row];
    barrier();
  }
}
