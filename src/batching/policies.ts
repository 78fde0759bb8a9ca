/** Every batching policy there is. To add one: write its file in policies/, add its name here. */
import { kinds } from '../core/kinds.ts'
import { adaptive } from './policies/adaptive.ts'
import { fixed } from './policies/fixed.ts'

export const policies = kinds(adaptive, fixed)
