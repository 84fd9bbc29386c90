/**
 * SVG, as little of it as the laboratory's plots need. A picture has a background of its own and colours for
 * light and dark surroundings (`prefers-color-scheme`); colours stand in classes, since not every
 * renderer knows variables.
 */

/** Colours by class: in light and in dark surroundings. */
const COLORS: Readonly<Record<string, readonly [light: string, dark: string]>> = {
  surface: ["#ffffff", "#15181d"],
  text: ["#1c2128", "#e6e9ee"],
  muted: ["#5b6470", "#a2abb8"],
  grid: ["#e3e6ea", "#2d333c"],
  plain: ["#8b949e", "#8b949e"],
  stockRecord: ["#b7791f", "#d9a441"],
  stockReplay: ["#e2b866", "#96702c"],
  record: ["#1f6fb4", "#58a6f0"],
  replay: ["#85b9e6", "#2f6da8"],
  good: ["#2a8c82", "#45b8ab"],
  bad: ["#c93a24", "#ff7a5c"],
};
export type ColorClass = keyof typeof COLORS;

const FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif";

/** A picture of the given size; `body` is in the order in which it is drawn. */
export function svgDocument(
  width: number,
  height: number,
  title: string,
  body: readonly string[],
): string {
  const rules = (scheme: 0 | 1) =>
    Object.entries(COLORS).map(([name, colors]) =>
      `.${name} { fill: ${colors[scheme]}; } .${name}-line { stroke: ${
        colors[scheme]
      }; fill: none; }`
    ).join("\n");
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" ` +
    `height="${height}" role="img" font-family="${FONT}" font-size="12">`,
    `<title>${escapeXml(title)}</title>`,
    `<style>\n${rules(0)}\n@media (prefers-color-scheme: dark) {\n${rules(1)}\n}\n</style>`,
    `<rect class="surface" width="${width}" height="${height}" rx="6"/>`,
    text(MARGIN, 26, title, { size: 15, bold: true }),
    ...body,
    "</svg>\n",
  ].join("\n");
}

/** Space around everything in a picture. */
export const MARGIN = 16;

export interface TextStyle {
  readonly color?: ColorClass;
  readonly anchor?: "start" | "middle" | "end";
  readonly size?: number;
  readonly bold?: boolean;
}

/** A line of text, its baseline at `y`. */
export function text(x: number, y: number, content: string, style: TextStyle = {}): string {
  const { color = "text", anchor = "start", size = 12, bold = false } = style;
  return `<text class="${color}" x="${round(x)}" y="${round(y)}" text-anchor="${anchor}" ` +
    `font-size="${size}"${bold ? ' font-weight="600"' : ""}>${escapeXml(content)}</text>`;
}

/** A filled rectangle; `hint` is shown by whoever points at it. */
export function rect(
  x: number,
  y: number,
  width: number,
  height: number,
  color: ColorClass,
  hint = "",
): string {
  const title = hint === "" ? "" : `<title>${escapeXml(hint)}</title>`;
  return `<rect class="${color}" x="${round(x)}" y="${round(y)}" width="${round(width)}" ` +
    `height="${round(height)}" rx="1.5">${title}</rect>`;
}

export function line(
  x1: number,
  y1: number,
  x2: number,
  y2: number,
  color: ColorClass,
  { width = 1, dashed = false }: { width?: number; dashed?: boolean } = {},
): string {
  return `<line class="${color}-line" x1="${round(x1)}" y1="${round(y1)}" x2="${round(x2)}" ` +
    `y2="${round(y2)}" stroke-width="${width}"${dashed ? ' stroke-dasharray="4 3"' : ""}/>`;
}

export function circle(
  x: number,
  y: number,
  radius: number,
  color: ColorClass,
  { hint = "", opacity = 1 }: { hint?: string; opacity?: number } = {},
): string {
  return `<circle class="${color}" cx="${round(x)}" cy="${round(y)}" r="${radius}"` +
    `${opacity === 1 ? "" : ` fill-opacity="${opacity}"`}>` +
    `${hint === "" ? "" : `<title>${escapeXml(hint)}</title>`}</circle>`;
}

/** Names of colours in a row, beginning at `x`. */
export function legend(
  x: number,
  y: number,
  entries: readonly (readonly [color: ColorClass, name: string])[],
): string[] {
  let at = x;
  return entries.flatMap(([color, name]) => {
    const parts = [rect(at, y - 9, 10, 10, color), text(at + 15, y, name, { color: "muted" })];
    at += 15 + name.length * LETTER_WIDTH + 18;
    return parts;
  });
}

/** Of a letter at size 12, on the average. */
const LETTER_WIDTH = 6.6;

/** Round numbers from 0 to at least `max`, about `count` of them. */
export function linearTicks(max: number, count = 6): number[] {
  const rough = max / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= rough)! * power;
  const ticks = Math.max(1, Math.ceil(max / step - 1e-9));
  return Array.from({ length: ticks + 1 }, (_, i) => Number((i * step).toPrecision(12)));
}

/** Powers of ten from at most `min` to at least `max`; both above 0. */
export function logTicks(min: number, max: number): number[] {
  const first = Math.floor(Math.log10(min) + 1e-9);
  const last = Math.max(first + 1, Math.ceil(Math.log10(max) - 1e-9));
  return Array.from({ length: last - first + 1 }, (_, i) => 10 ** (first + i));
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

function escapeXml(content: string): string {
  return content.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");
}
