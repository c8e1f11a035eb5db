/** Networks that fall apart and heal. */
import { testScenario } from './in-a-test.ts';

testScenario('halves');
testScenario('cut-off');
