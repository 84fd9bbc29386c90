/** Quantities as people read and write them: durations, sizes, counts. */

/** Milliseconds of each unit of time. */
export const UNIT_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
};

/** The longest duration that is accepted: a timer waits 2^31 - 1 ms at most, set to more it fires at once. */
export const DURATION_MAX_MS = 596 * 3_600_000;

/**
 * Milliseconds of `500ms`, `10s`, `1.5s`, `2m`, `1h`, or of several in a row (`1h30m`);
 * `undefined` where the text is not a duration of 1 ms to 596 h.
 */
export function parseDuration(text: string): number | undefined {
  if (!/^(\d+(\.\d+)?(ms|s|m|h))+$/.test(text)) return undefined;
  let total = 0;
  for (const [, number, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g)) {
    total += Number(number) * UNIT_MS[unit!]!;
  }
  const ms = Math.round(total);
  return ms >= 1 && ms <= DURATION_MAX_MS ? ms : undefined;
}

/** The shortest text that {@link parseDuration} reads as `ms`; "0" for none. */
export function formatDuration(ms: number): string {
  if (ms === 0) return "0";
  for (const unit of ["h", "m", "s"]) {
    const size = UNIT_MS[unit]!;
    if (ms % size === 0) return `${ms / size}${unit}`;
  }
  return ms > 1000 ? `${ms / 1000}s` : `${ms}ms`;
}

/** Elapsed time: "0.4 s", "12.3 s", "2 min 05 s", "1 h 02 min". */
export function formatSeconds(seconds: number): string {
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  const two = (n: number) => String(n).padStart(2, "0");
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  return `${Math.floor(whole / 3600)} h ${two(Math.floor(whole % 3600 / 60))} min`;
}

/** A size in decimal units with three digits that count: "999 B", "1.23 kB", "45.6 MB". */
export function formatBytes(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`;
  let value = bytes;
  for (const unit of ["kB", "MB", "GB", "TB", "PB"]) {
    value /= 1000;
    const text = value < 9.995 ? value.toFixed(2) : value < 99.95 ? value.toFixed(1) : undefined;
    if (text !== undefined) return `${text} ${unit}`;
    if (value < 999.5) return `${value.toFixed(0)} ${unit}`;
  }
  return `${value.toFixed(0)} PB`;
}

const SIZE_UNITS = { K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 } as const;

/** Bytes of `512M`, `4G`, `1T`; `undefined` where the text is no such size. */
export function parseSize(text: string): number | undefined {
  const parts = /^([1-9]\d{0,6})([KMGT])$/.exec(text);
  return parts === null
    ? undefined
    : Number(parts[1]) * SIZE_UNITS[parts[2] as keyof typeof SIZE_UNITS];
}

/** The shortest text that {@link parseSize} reads as `bytes`. */
export function formatSize(bytes: number): string {
  for (const unit of ["T", "G", "M"] as const) {
    if (bytes % SIZE_UNITS[unit] === 0) return `${bytes / SIZE_UNITS[unit]}${unit}`;
  }
  return `${Math.ceil(bytes / SIZE_UNITS.K)}K`;
}

/** A whole number with its thousands apart: "1,234,567". */
export function formatCount(n: number): string {
  return String(n).replace(/\B(?=(\d{3})+$)/g, ",");
}

/** A part of 1 as "42 %"; 100 % only where nothing is missing. */
export function formatPercent(fraction: number): string {
  const percent = fraction >= 1 ? 100 : Math.min(99, Math.floor(fraction * 100));
  return `${Math.max(0, percent)} %`;
}

/** An ISO time as local date and time to the minute: "2026-01-31 09:05". */
export function formatTime(iso: string): string {
  const time = new Date(iso);
  if (Number.isNaN(time.getTime())) return iso;
  const two = (n: number) => String(n).padStart(2, "0");
  return `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())} ` +
    `${two(time.getHours())}:${two(time.getMinutes())}`;
}
