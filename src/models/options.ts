import * as z from 'zod'

export const storeOptions = z.strictObject({
  path: z.string().default('models').describe('Folder with the models, relative to the configuration file.'),
})
