/** Value parsers of our own for the command line: durations, names and tags, recordings. */
import { message, text } from "@optique/core/message";
import { optional } from "@optique/core/modifiers";
import { option } from "@optique/core/primitives";
import type { Suggestion } from "@optique/core/parser";
import { string, type ValueParser } from "@optique/core/valueparser";
import { openCatalog } from "../catalog/catalog.ts";
import { checkLabel } from "../catalog/entry.ts";
import { defaultCatalogPath, isServer } from "../catalog/store.ts";
import { messageOf } from "../errors.ts";
import { formatTarget, parseTarget, type SeekTarget } from "../session/target.ts";
import {
  DURATION_MAX_MS,
  formatDuration,
  formatSize,
  parseDuration,
  parseSize,
} from "./quantities.ts";

const LONGEST = text(formatDuration(DURATION_MAX_MS));

/** `500ms`, `10s`, `2m`, `1h30m`, as milliseconds; with `zero` also `0`. */
export function duration(options: { readonly zero?: boolean } = {}): ValueParser<"sync", number> {
  return {
    mode: "sync",
    metavar: options.zero ? "DURATION|0" : "DURATION",
    placeholder: 0,
    parse(input) {
      const ms = options.zero && input === "0" ? 0 : parseDuration(input);
      if (ms !== undefined) return { success: true, value: ms };
      return {
        success: false,
        error:
          message`Expected a duration such as 500ms, 10s, 2m or 1h, at most ${LONGEST}, but got ${input}.`,
      };
    },
    format: formatDuration,
  };
}

/** `512M`, `4G`, as bytes. */
export function size(): ValueParser<"sync", number> {
  return {
    mode: "sync",
    metavar: "SIZE",
    placeholder: 1024,
    parse(input) {
      const bytes = parseSize(input);
      if (bytes !== undefined) return { success: true, value: bytes };
      return {
        success: false,
        error: message`Expected a size such as 512M or 4G, but got ${input}.`,
      };
    },
    format: formatSize,
  };
}

/** A point of a recording: `42`, `1234567@left`, `12.5s`. */
export function seekTarget(): ValueParser<"sync", SeekTarget> {
  return {
    mode: "sync",
    metavar: "POINT",
    placeholder: { kind: "checkpoint", epoch: 1 },
    parse(input) {
      const target = parseTarget(input);
      if (target !== undefined) return { success: true, value: target };
      return {
        success: false,
        error:
          message`Expected a checkpoint (42), an instruction (1234567@left) or a time (12.5s), but got ${input}.`,
      };
    },
    format: formatTarget,
  };
}

/** Names of VMs, separated by commas. */
export function vmNames(): ValueParser<"sync", readonly string[]> {
  return names("VM", "VMs", "left,right");
}

/** Names separated by commas. */
export function names(
  metavar: string,
  what: string,
  example: string,
): ValueParser<"sync", readonly string[]> {
  return {
    mode: "sync",
    metavar: `${metavar}[,${metavar}]`,
    placeholder: [],
    parse(input) {
      const names = input.split(",");
      if (names.every((name) => /^[a-z][a-z0-9-]*$/.test(name))) {
        return { success: true, value: [...new Set(names)] };
      }
      return {
        success: false,
        error: message`Expected names of ${text(what)} (${text(example)}), but got ${input}.`,
      };
    },
    format: (value) => value.join(","),
  };
}

/** A number of epochs from 1, or `off`: `Infinity`. */
export function windowLength(): ValueParser<"sync", number> {
  return {
    mode: "sync",
    metavar: "N|off",
    placeholder: 1,
    parse(input) {
      const epochs = input === "off" ? Infinity : /^[1-9]\d{0,6}$/.test(input) ? Number(input) : 0;
      if (epochs > 0) return { success: true, value: epochs };
      return {
        success: false,
        error: message`Expected a number from 1, or off, but got ${input}.`,
      };
    },
    format: (value) => value === Infinity ? "off" : `${value}`,
  };
}

/** A name or a tag that the catalog accepts. */
export function label(kind: "name" | "tag"): ValueParser<"sync", string> {
  return {
    mode: "sync",
    metavar: kind === "name" ? "NAME" : "TAG",
    placeholder: "x",
    parse(input) {
      try {
        return { success: true, value: checkLabel(kind, input) };
      } catch (error) {
        return { success: false, error: [{ type: "text", text: messageOf(error) }] };
      }
    },
    format: (value) => value,
  };
}

/** Which recording a command means that works on this host and on those of a coordinator. */
export const RECORDING_REFERENCE =
  "The recording: its directory, its name, or the beginning of its id. With --coordinator: its name (the newest of " +
  "that name), or at least 4 digits of its id.";

/** A recording: its directory, or what the catalog finds it by. Completes both. */
export function recordingReference(): ValueParser<"async", string> {
  return {
    mode: "async",
    metavar: "DIR|NAME",
    placeholder: "",
    parse: (input) =>
      Promise.resolve(
        input === ""
          ? { success: false, error: message`Expected a directory or a name, but got "".` }
          : { success: true, value: input },
      ),
    format: (value) => value,
    async *suggest(prefix): AsyncGenerator<Suggestion> {
      for (const name of await knownNames()) {
        if (name.startsWith(prefix)) yield { kind: "literal", text: name };
      }
      if (!prefix.startsWith("-")) yield { kind: "file", type: "directory", pattern: prefix };
    },
  };
}

/** `--trace`, which the commands that replay have. */
export const traceOption = optional(
  option("--trace", string({ metavar: "FILE" }), {
    description: [{
      type: "text",
      text:
        "Write what the replay observed to FILE, for `diff`; of several replays to FILE.1, FILE.2…",
    }],
  }),
);

/** The names in the catalog. Completion must neither fail nor make a catalog where there is none. */
async function knownNames(): Promise<string[]> {
  const path = defaultCatalogPath();
  try {
    if (!isServer(path)) await Deno.stat(path);
    const catalog = await openCatalog({ path });
    try {
      return [...new Set((await catalog.list()).map((e) => e.name))];
    } finally {
      catalog.close();
    }
  } catch {
    return [];
  }
}
