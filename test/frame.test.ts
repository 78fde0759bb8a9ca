/** How a batch is described in a slot, and read there again. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FrameReader, frameHeadBytes, writeFrame, type Frame } from '../src/runtime/frame.ts'

function frameOf(rows: number, width = 30): Frame {
  const offset = frameHeadBytes(2)
  return {
    rows,
    runRows: 64,
    inputs: [{ port: 0, datatype: 'FP32', shape: [rows, width], offset, bytes: 4 * rows * width }],
    outputs: [{ port: 1, datatype: 'INT64', shape: [rows], offset: offset + 8_192, bytes: 8 * rows }],
  }
}

test('a frame is read as it was written, and the same one comes as the same object', () => {
  const slot = new SharedArrayBuffer(4_096, { maxByteLength: 65_536 })
  const reader = new FrameReader(slot)
  writeFrame(slot, frameOf(3))
  const first = reader.read()
  assert.deepEqual(first, frameOf(3))
  writeFrame(slot, frameOf(5))
  assert.deepEqual(reader.read(), frameOf(5))
  slot.grow(65_536)
  writeFrame(slot, frameOf(3))
  assert.equal(reader.read(), first)
})

test('frames of as many rows that differ in anything else are told apart', () => {
  const slot = new ArrayBuffer(4_096)
  const reader = new FrameReader(slot)
  const frames = [frameOf(3), frameOf(3, 31), { ...frameOf(3), runRows: 0 }, { ...frameOf(3), outputs: [] }, frameOf(3)]
  for (const frame of frames) {
    writeFrame(slot, frame)
    assert.deepEqual(reader.read(), frame)
  }
})
