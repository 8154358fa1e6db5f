// The MD5 of a file, in lower-case hex: browsers have no call for it. RFC 1321, a slice of the file at a time.
"use strict";

const MD5_SLICE = 1024 * 1024;
const MD5_SHIFTS = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];
const MD5_SINES = Int32Array.from({ length: 64 }, (_, step) => Math.floor(Math.abs(Math.sin(step + 1)) * 2 ** 32));

// Take the 16 words at `at` into the state.
function md5Block(state, words, at) {
  let a = state[0], b = state[1], c = state[2], d = state[3];
  for (let step = 0; step < 64; step += 1) {
    const round = step >> 4;
    let mixed, word;
    if (round === 0) { mixed = (b & c) | (~b & d); word = step; }
    else if (round === 1) { mixed = (d & b) | (~d & c); word = 5 * step + 1; }
    else if (round === 2) { mixed = b ^ c ^ d; word = 3 * step + 5; }
    else { mixed = c ^ (b | ~d); word = 7 * step; }
    const sum = (a + mixed + MD5_SINES[step] + words[at + (word & 15)]) | 0;
    const shift = MD5_SHIFTS[round][step & 3];
    a = d; d = c; c = b;
    b = (b + ((sum << shift) | (sum >>> (32 - shift)))) | 0;
  }
  state[0] = (state[0] + a) | 0; state[1] = (state[1] + b) | 0;
  state[2] = (state[2] + c) | 0; state[3] = (state[3] + d) | 0;
}

// The last bytes, a one bit, zeros, and how many bits there were, as whole blocks.
function md5Padded(rest, size) {
  const padded = new Uint8Array((((rest.length + 8) >> 6) + 1) * 64);
  padded.set(rest);
  padded[rest.length] = 0x80;
  const length = new DataView(padded.buffer, padded.length - 8);
  length.setUint32(0, (size * 8) >>> 0, true);
  length.setUint32(4, Math.floor(size / 2 ** 29), true);
  return padded.buffer;
}

// Rejects when the file cannot be read.
async function md5(file) {
  const state = Int32Array.of(0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476);
  const take = (buffer) => {
    const words = new Int32Array(buffer);
    for (let at = 0; at < words.length; at += 16) md5Block(state, words, at);
  };
  let start = 0;
  for (; start + MD5_SLICE <= file.size; start += MD5_SLICE) {
    take(await file.slice(start, start + MD5_SLICE).arrayBuffer());
  }
  take(md5Padded(new Uint8Array(await file.slice(start).arrayBuffer()), file.size));
  return [...new Uint8Array(state.buffer)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
