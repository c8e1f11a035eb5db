/** Untrusted JSON: bounded depth before it is parsed, since JSON.parse recurses as deeply as it is told to. */
import { accept, reject, type Verdict } from '../common/errors.ts';

/** Whether brackets nest deeper than `max`. Ignores what stands in strings; malformed text is JSON.parse's to refuse. */
function tooDeep(text: string, max: number): boolean {
  let depth = 0;
  let inString = false;
  for (let index = 0; index < text.length; index += 1) {
    const unit = text.charCodeAt(index);
    if (inString) {
      if (unit === 0x5c) index += 1;
      else if (unit === 0x22) inString = false;
    } else if (unit === 0x22) inString = true;
    else if (unit === 0x5b || unit === 0x7b) {
      depth += 1;
      if (depth > max) return true;
    } else if (unit === 0x5d || unit === 0x7d) depth -= 1;
  }
  return false;
}

export function parseJson(text: string, maxDepth: number): Verdict<unknown> {
  if (tooDeep(text, maxDepth)) return reject('JSON_TOO_DEEP', `The JSON is nested deeper than ${maxDepth} levels.`);
  try {
    return accept(JSON.parse(text) as unknown);
  } catch {
    return reject('NOT_JSON', 'The body is not JSON.');
  }
}
