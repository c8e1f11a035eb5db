#!/usr/bin/env node
// The command `emrchain` in a clone (npx emrchain): the command line of client/, started through the same choice of Node
// as every npm script. Plain JavaScript for Node 18; nothing else goes in here.

import { join } from 'node:path';
import process from 'node:process';
import { become, chooseNode, COMMAND_LINE, ensureInstalled, ROOT } from './toolchain.mjs';

ensureInstalled(false);
become(chooseNode(), [join(ROOT, COMMAND_LINE), ...process.argv.slice(2)], process.cwd());
