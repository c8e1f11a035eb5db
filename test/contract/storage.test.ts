import t from 'tap';
import { openLevelStore } from '../../node/storage/level-store.ts';
import { SimulatedDisk } from '../crash/simulated-disk.ts';
import { storageContract } from './storage-contract.ts';

t.test('LevelDB', (t) => {
  let count = 0;
  storageContract(t, async () => {
    count += 1;
    const dir = t.testdir({});
    const own = `${dir}/${count}`;
    return { open: () => openLevelStore(own) };
  });
  t.end();
});

t.test('simulated disk', (t) => {
  storageContract(t, async () => {
    const disk = new SimulatedDisk();
    return { open: async () => disk.open() };
  });
  t.end();
});
