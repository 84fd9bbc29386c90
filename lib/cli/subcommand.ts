/**
 * What every subcommand file fills in: flags, help, run. A parsed command line becomes an
 * {@link Invocation}, which the program then gives its {@link Context}.
 */
import { lineBreak, type Message, text } from "@optique/core/message";
import { map, withDefault } from "@optique/core/modifiers";
import type { Mode, Parser } from "@optique/core/parser";
import { command, flag } from "@optique/core/primitives";
import type { Catalog } from "../catalog/catalog.ts";
import type { CatalogEntry } from "../catalog/entry.ts";
import { holdsManifest, idOfRecording, realDirectory } from "../catalog/directories.ts";
import { ClusterrrError, DivergenceError } from "../errors.ts";
import { looksPacked } from "../pack/compression.ts";
import type { Operations, Progress } from "./ports.ts";
import { createProgress, SILENT } from "./progress.ts";
import { printJson, type Terminal } from "./terminal.ts";

/** What the program hands to a command. */
export interface Services {
  readonly version: string;
  readonly operations: Operations;
  readonly terminal: Terminal;
  /** Aborts on Ctrl-C and SIGTERM, and when the terminal goes away. */
  readonly signal: AbortSignal;
  /** Opens the catalog; the caller closes it. */
  openCatalog(): Promise<Catalog>;
}

export interface Context extends Services {
  readonly verbose: boolean;
}

/** 0: it worked; 1: it failed, or a replay diverged. */
export type ExitStatus = 0 | 1;

export type Invocation = (context: Context) => Promise<ExitStatus>;

export interface SubcommandSpec<M extends Mode, T, S> {
  readonly name: string;
  /** One line for the list of commands. */
  readonly brief: string;
  /** Paragraphs for its own help. */
  readonly description: readonly string[];
  /** Command lines without the program's name. */
  readonly examples: readonly string[];
  readonly parser: Parser<M, T, S>;
  run(options: T, context: Context): Promise<ExitStatus>;
}

/** A subcommand as a parser of its {@link Invocation}. */
export function defineSubcommand<M extends Mode, T, S>(spec: SubcommandSpec<M, T, S>) {
  const invocation = map(
    spec.parser,
    (options): Invocation => (context) => spec.run(options, context),
  );
  return command(spec.name, invocation, {
    brief: sentence(spec.brief),
    description: spec.description.flatMap((paragraph, i) => [
      ...(i === 0 ? [] : [lineBreak(), lineBreak()]),
      text(paragraph),
    ]),
    footer: exampleLines(spec.examples),
  });
}

/** Plain words as one of Optique's messages. */
export function sentence(words: string): Message {
  return [text(words)];
}

/** The "Examples:" block of a help page. */
export function exampleLines(examples: readonly string[]): Message {
  return [
    text("Examples:"),
    ...examples.flatMap((line) => [lineBreak(), text(`  clusterrr ${line}`)]),
  ];
}

/** `--json`, which most commands have. */
export function jsonFlag(what = "Print the result as JSON.") {
  return withDefault(flag("--json", { description: sentence(what) }), false);
}

/** The progress of a command: none beside `--json`, unless the user wants to hear more. */
export function progressOf(context: Context, json: boolean): Progress {
  return json && !context.verbose ? SILENT : createProgress(context.terminal);
}

/** Runs `work` with live progress that is gone from the screen at its end. */
export async function withProgress<T>(
  context: Context,
  json: boolean,
  work: (progress: Progress) => Promise<T>,
): Promise<T> {
  const progress = progressOf(context, json);
  try {
    return await work(progress);
  } finally {
    progress.clear();
  }
}

/** Runs `work` with the catalog open. */
export async function withCatalog<T>(
  context: Context,
  work: (catalog: Catalog) => Promise<T>,
): Promise<T> {
  const catalog = await context.openCatalog();
  try {
    return await work(catalog);
  } finally {
    catalog.close();
  }
}

/**
 * The directory that `reference` means: itself where it is a recording, else what the catalog finds.
 * @throws {ClusterrrError} where there is none, or it is not on this host
 */
export async function locateRecording(context: Context, reference: string): Promise<string> {
  const directory = await realDirectory(reference);
  if (directory !== undefined && await holdsManifest(directory)) return directory;
  if (directory === undefined && await isPackedFile(reference)) {
    throw new ClusterrrError(
      `${reference} is a packed recording. Unpack it first: clusterrr unpack ${reference} --out DIR`,
    );
  }
  return await withCatalog(context, async (catalog) => {
    const entry = await catalog.find(reference).catch((cause) => {
      if (directory === undefined || !(cause instanceof ClusterrrError)) throw cause;
      throw new ClusterrrError(
        `${reference} is a directory, but not a recording: it has no manifest.json`,
        { cause },
      );
    });
    if (await realDirectory(entry.path) !== undefined) {
      requireItself(entry);
      return entry.path;
    }
    throw new ClusterrrError(
      entry.host === Deno.hostname()
        ? `The directory of "${entry.name}" is gone: ${entry.path}. If it was moved, ` +
          `\`clusterrr add DIR\`; else \`clusterrr ls --rescan\` forgets it.`
        : `"${entry.name}" is on host ${entry.host}, in ${entry.path}`,
    );
  });
}

/** @throws {ClusterrrError} where another recording is in its directory now */
function requireItself({ id, name, path }: CatalogEntry): void {
  const found = idOfRecording(path);
  if (found === undefined || found === id) return; // whoever reads it says what is wrong with it
  throw new ClusterrrError(
    `"${name}" (${id}) is gone: another recording, ${found}, is in ${path} now. ` +
      `\`clusterrr add ${path}\` brings the catalog up to date.`,
  );
}

async function isPackedFile(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isFile && await looksPacked(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.PermissionDenied) {
      return false;
    }
    throw error;
  }
}

/** A divergence that was thrown is a result too: with `--json`, scripts get it as an object. */
export async function reportingDivergence(
  context: Context,
  json: boolean,
  work: () => Promise<ExitStatus>,
): Promise<ExitStatus> {
  try {
    return await work();
  } catch (error) {
    if (json && error instanceof DivergenceError) {
      printJson(context.terminal, { ok: false, divergence: error.divergence });
    }
    throw error;
  }
}
