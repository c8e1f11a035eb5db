/** Tells the story on the terminal: chapters, steps with their outcome and time, and the sum at the end. */
import { styleText } from 'node:util';

type Style = Parameters<typeof styleText>[0];

export class Narrator {
  readonly #startMs = performance.now();
  #held = 0;
  #failed = 0;

  get failed(): number {
    return this.#failed;
  }

  line(text: string): void {
    process.stdout.write(`${text}\n`);
  }

  blank(): void {
    this.line('');
  }

  chapter(title: string): void {
    this.line(`\n${paint('bold', title)}  ${paint('dim', this.#clock())}`);
  }

  /**
   * One step: `act` does it and answers with what was seen. A step that throws has not held; the story goes on to
   * the next chapter's end only if the caller wants to.
   */
  async step(what: string, act: () => Promise<string | void>): Promise<void> {
    const startMs = performance.now();
    try {
      const seen = await act();
      this.#held += 1;
      const took = `${Math.round(performance.now() - startMs)} ms`;
      this.line(`  ${paint('green', '✓')} ${what} ${paint('dim', took)}`);
      if (seen) for (const row of seen.split('\n')) this.line(`      ${row}`);
    } catch (error) {
      this.#failed += 1;
      this.line(`  ${paint('red', '✗')} ${what}`);
      this.line(`      ${error instanceof Error ? error.message : String(error)}`);
      throw error;
    }
  }

  summary(): void {
    const verdict = this.#failed === 0 ? paint('green', 'Every step held') : paint('red', 'The story broke off');
    this.line(`\n${verdict}: ${this.#held} held, ${this.#failed} failed, ${this.#clock()}.`);
  }

  #clock(): string {
    return `${((performance.now() - this.#startMs) / 1000).toFixed(1)} s`;
  }
}

/** Colour where the terminal shows it; `styleText` looks at NO_COLOR and at whether it is one. */
function paint(style: Style, text: string): string {
  return styleText(style, text, { stream: process.stdout });
}
