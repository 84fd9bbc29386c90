/** Where a cluster file says something else than the cluster that was booted. */

/**
 * Compares two resolved clusters value by value.
 * @returns a line each, such as `vms[0].memoryMiB: 128 was booted, now 256`; none where they are equal
 */
export function specDifferences(booted: unknown, now: unknown, path = ""): string[] {
  if (!isObject(booted) || !isObject(now) || Array.isArray(booted) !== Array.isArray(now)) {
    return Object.is(booted, now)
      ? []
      : [`${path}: ${shown(booted)} was booted, now ${shown(now)}`];
  }
  const keys = new Set([...Object.keys(booted), ...Object.keys(now)]);
  return [...keys].flatMap((key) => {
    const at = Array.isArray(booted) ? `${path}[${key}]` : path === "" ? key : `${path}.${key}`;
    return specDifferences(booted[key], now[key], at);
  });
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

function shown(value: unknown): string {
  return value === undefined ? "nothing" : JSON.stringify(value);
}
