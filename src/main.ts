#!/usr/bin/env node
/** The entry: picks the command. */
import { join } from 'node:path'
import { Command } from 'commander'
import packageFile from '../package.json' with { type: 'json' }
import { cert } from './cli/cert.ts'
import { check } from './cli/check.ts'
import { docs } from './cli/docs.ts'
import { standardAdmin } from './cli/admin-client.ts'
import { experiment } from './cli/experiment.ts'
import { infer } from './cli/infer.ts'
import { key } from './cli/key.ts'
import { models } from './cli/models.ts'
import { serve } from './cli/serve.ts'
import { split } from './cli/split.ts'
import { token } from './cli/token.ts'

// Workers start in half the time from code that was compiled before. Where it cannot be kept, they compile it again.
process.env['NODE_COMPILE_CACHE'] ??= join(import.meta.dirname, '../node_modules/.cache/compiled')

const standardConfig = 'config/penstock.yaml'
const program = new Command('penstock')
  .description('Serves ONNX models over the Open Inference Protocol, with requests batched onto local workers.')
  .version(packageFile.version)
  .showHelpAfterError('(penstock --help shows what there is)')

program
  .command('serve')
  .description('run the gateway until SIGTERM or Ctrl-C')
  .argument('[config]', 'configuration file', standardConfig)
  .action(serve)

program
  .command('check')
  .description('try a configuration and every model in its store, and show what would be served and what is weak')
  .argument('[config]', 'configuration file', standardConfig)
  .option('--strict', 'fail where a setting is weak', false)
  .option(
    '--as <caller>',
    'say instead what this caller may do, and why: key:robot, or "subject=alice,tenant=acme,scopes=models other"',
  )
  .option('--operation <operation>', 'infer, metadata, stats, admin.read or admin.write; all without it')
  .option('--model <name>', 'a certain model; all without it')
  .option('--model-version <version>', 'a certain version; all without it')
  .action(check)

program
  .command('models')
  .description('list what is in the store, with digests and held-out metrics')
  .argument('[config]', 'configuration file', standardConfig)
  .action(models)

program
  .command('infer')
  .description('send a request to a running gateway and print the answer')
  .argument('<model>', 'name of the model')
  .requiredOption('-i, --input <file>', 'a request in the Open Inference Protocol, as JSON')
  .option('-u, --url <url>', 'where the gateway is', 'http://127.0.0.1:8080')
  .option('-m, --model-version <version>', 'a certain version of the model')
  .option('--token-file <file>', 'a token to show; without it, that in PENSTOCK_TOKEN, if there is one')
  .option('--api-key-file <file>', 'an API key to show instead')
  .option('--api-key-header <name>', 'the field that carries it', 'x-api-key')
  .option('--ca <file>', 'who signed the certificate of the gateway, as PEM, if it speaks HTTPS')
  .option('--cert <file>', 'a certificate of your own, as PEM, if the gateway asks for one')
  .option('--key <file>', 'its key, as PEM')
  .addHelpText('after', '\nExample:\n  penstock infer digits --input config/models/digits/1/samples/seven.json')
  .action(infer)

program
  .command('split')
  .description('show how the requests of a model are divided between versions, or change it while they flow')
  .argument('<model>', 'name of the model')
  .argument('[edits...]', 'arms or versions and their weights, such as canary=5, or a share such as canary=5%')
  .option('--dry-run', 'only say what would follow', false)
  .option('--reset', 'go back to the weights of the configuration', false)
  .option('--action <action>', 'what the experiment is to do: pause, resume, promote, rollback or release')
  .option('--json', 'print JSON', false)
  .option('--admin <url>', 'where the admin listener of the gateway is', standardAdmin)
  .addHelpText('after', '\nExamples:\n  penstock split digits\n  penstock split digits canary=10% --dry-run')
  .action(split)

program
  .command('experiment')
  .description('say in words how the experiment on a model stands, and what may be concluded')
  .argument('<model>', 'name of the model')
  .option('--json', 'print JSON', false)
  .option('--admin <url>', 'where the admin listener of the gateway is', standardAdmin)
  .action(experiment)

program
  .command('token')
  .description('mint a token for development, from a running gateway with a development issuer')
  .option('--subject <name>', 'who calls (developer)')
  .option('--tenant <name>', 'on whose behalf')
  .option('--scope <scopes...>', 'what for (models)')
  .option('--profile <name>', 'how much of an answer is shown')
  .option('--lifetime <seconds>', 'how long it is good for, at most a day (an hour)')
  .option('--admin <url>', 'where the admin listener of the gateway is', standardAdmin)
  .addHelpText('after', '\nExample:\n  export PENSTOCK_TOKEN=$(penstock token)')
  .action(token)

program
  .command('key')
  .description('make an API key, and the entry for the file of keys')
  .argument('<id>', 'whose key it is')
  .option('--tenant <name>', 'on whose behalf it calls')
  .option('--scope <scopes...>', 'what it is for')
  .option('--expires <time>', 'until when it is good, such as 2027-01-31T00:00:00Z')
  .action(key)

program
  .command('cert')
  .description('make a certificate for development, and an authority that signs it')
  .argument('[names...]', 'host names and addresses that it stands for (localhost, 127.0.0.1 and ::1 without any)')
  .option('-o, --out <folder>', 'where to put it', 'config/tls')
  .option('-c, --client <name>', 'for a client of this name instead')
  .addHelpText('after', '\nExamples:\n  penstock cert\n  penstock cert api.example.com\n  penstock cert --client alice')
  .action(cert)

program
  .command('docs', { hidden: true })
  .description('regenerate the reference and the editor schema')
  .option('--check', 'only say whether they are fresh', false)
  .action(docs)

await program.parseAsync()
