/** Processes that die and come back, under load. */
import { testScenario } from './in-a-test.ts';

testScenario('kills', 6);
testScenario('leader');
