/** The memory of requests in flight against a simple model: who has what, and never more in all than there is. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Arena, GrowingBytes, Lease } from '../src/core/arena.ts'
import { drawFrom } from './support/draw.ts'

const smallest = 4_096

function sizeOf(bytes: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(bytes, smallest)))
}

function sum(sizes: Iterable<number>): number {
  let all = 0
  for (const size of sizes) all += size
  return all
}

type Draw = (below: number) => number

/** Sizes at which something may change, and others. */
function wish(draw: Draw, most: number): number {
  const kind = draw(6)
  if (kind === 0) return draw(3)
  if (kind === 1) return 2 ** draw(Math.log2(most) + 2)
  if (kind === 2) return 2 ** draw(Math.log2(most) + 2) + 1
  return draw(most >> draw(8))
}

/** What an arena keeps for the next one who asks: every buffer of those it has had that it lends again. */
function kept(arena: Arena, known: ReadonlySet<ArrayBuffer>, most: number): number {
  const taken: ArrayBuffer[] = []
  let bytes = 0
  for (let size = smallest; size <= most; size *= 2) {
    for (;;) {
      const buffer = arena.take(size)
      if (!buffer) break
      taken.push(buffer)
      if (!known.has(buffer)) break
      bytes += size
    }
  }
  for (const buffer of taken) arena.giveBack(buffer)
  return bytes
}

test('an arena lends what is free and nothing twice, refuses only what would be too much, and gets all of it back', () => {
  let refused = 0
  let again = 0
  for (let seed = 0; seed < 60; seed++) {
    const draw = drawFrom(seed)
    const most = 2 ** (14 + draw(8))
    const arena = new Arena(most)
    const known = new Set<ArrayBuffer>()
    const leases: { lease: Lease; held: Set<ArrayBuffer> }[] = []
    const held = () => leases.flatMap((each) => [...each.held])
    for (let step = 0; step < 400; step++) {
      const one = leases[draw(leases.length)]
      const kind = draw(10)
      if (!one || (kind === 0 && leases.length < 12)) leases.push({ lease: new Lease(arena), held: new Set() })
      else if (kind === 1) {
        one.lease.release()
        one.held.clear()
      } else if (kind <= 3 && one.held.size > 0) {
        const buffer = [...one.held][draw(one.held.size)]!
        one.lease.drop(buffer)
        one.held.delete(buffer)
      } else {
        const bytes = wish(draw, most)
        const before = sum(held().map(({ byteLength }) => byteLength))
        const buffer = one.lease.take(bytes)
        assert.equal(buffer === undefined, before + sizeOf(bytes) > most, `${bytes} bytes beside ${before} of ${most}`)
        if (!buffer) {
          refused++
          continue
        }
        assert.equal(buffer.byteLength, sizeOf(bytes))
        assert.ok(!held().includes(buffer), 'what is lent is not lent again')
        if (known.has(buffer)) again++
        known.add(buffer)
        one.held.add(buffer)
      }
      assert.equal(arena.heldBytes, sum(held().map(({ byteLength }) => byteLength)))
      assert.ok(arena.heldBytes <= most)
    }
    for (const { lease } of leases) lease.release()
    assert.equal(arena.heldBytes, 0)
    const idle = kept(arena, known, most)
    assert.ok(idle <= most / 8, `${idle} bytes are kept of ${most}`)
    assert.equal(arena.heldBytes, 0)
  }
  assert.ok(refused > 1_000 && again > 1_000, `${refused} refused, ${again} lent again`)
})

test('memory that was given back is lent again, up to an eighth of all', () => {
  const arena = new Arena(2 ** 20)
  const all = Array.from({ length: 256 }, () => arena.take(1)!)
  assert.equal(arena.take(1), undefined)
  for (const buffer of all) arena.giveBack(buffer)
  assert.equal(kept(arena, new Set(all), 2 ** 20), 2 ** 17)
})

test('a lease that is released twice gives back once, and may be used again', () => {
  const arena = new Arena(2 ** 16)
  const [one, other] = [new Lease(arena), new Lease(arena)]
  other.take(5_000)
  one.take(1)
  one.release()
  one.release()
  assert.equal(arena.heldBytes, 8_192)
  one.take(1)
  assert.equal(arena.heldBytes, 12_288)
  one.release()
  other.release()
  assert.equal(arena.heldBytes, 0)
})

test('bytes that grow are the bytes that were appended, less those that were shifted out', () => {
  let full = 0
  for (let seed = 0; seed < 200; seed++) {
    const draw = drawFrom(seed)
    const most = 2 ** (13 + draw(6))
    const arena = new Arena(most)
    const lease = new Lease(arena)
    const growing = new GrowingBytes(lease)
    let model = Buffer.alloc(0)
    let longest = 0
    for (let step = 0; step < 60; step++) {
      const kind = draw(4)
      if (kind === 0) {
        const count = draw(model.length + 1)
        growing.shift(count)
        model = model.subarray(count)
      } else if (kind === 1) {
        const bytes = wish(draw, most)
        if (growing.makeRoom(bytes)) longest = Math.max(longest, model.length + bytes)
        else full++
      } else {
        const piece = Buffer.alloc(draw(4) === 0 ? 0 : draw(most >> draw(10)), step + 1)
        if (growing.append(piece)) model = Buffer.concat([model, piece])
        else full++
        longest = Math.max(longest, model.length)
      }
      // Also where there was no memory for more.
      assert.equal(growing.length, model.length)
      assert.ok(model.equals(growing.bytes))
      assert.equal(arena.heldBytes, longest === 0 ? 0 : sizeOf(longest))
    }
    lease.release()
    assert.equal(arena.heldBytes, 0)
  }
  assert.ok(full > 100, `${full} found no memory`)
})
