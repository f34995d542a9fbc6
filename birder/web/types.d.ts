// The types that the page's modules share. Those of answers are as the server's OpenAPI description has them.

export type Kind = "text" | "number" | "time" | "boolean";
export type DatePart = "hour" | "month";
export type Value = string | number | boolean;
export type Colour = [red: number, green: number, blue: number];
export type Timer = ReturnType<typeof setTimeout>;

/** A column, and in how many rows it has a value. */
export interface Column {
  name: string;
  type: Kind;
  filled: number;
}

export interface Abilities {
  search_text: boolean;
  text_by: "encoder" | "class names" | null;
  search_image: boolean;
  predict: boolean;
  why: string | null;
}

export interface Tidying {
  worth: boolean;
  bytes: number;
  pieces: number;
  pending: number;
}

export interface Collection {
  name: string;
  path: string;
  model: { name: string; precision: string; engine: string; embedding_size: number };
  rows: number;
  failures: number;
  columns: Column[];
  can: Abilities;
  writable: boolean;
  version: number;
  tidy: Tidying;
  /** The columns of taxonomic ranks, from kingdom to species. */
  ranks: string[];
  /** The columns that Birder fills in itself, in the order in which they are shown. */
  technical_columns: string[];
  /** Colours of categories as "#rrggbb", for the most frequent first. */
  palette: string[];
  /** The colour of rows without a value. */
  missing_colour: string;
}

/** An image in a list. */
export interface Photo {
  id: string;
  name: string;
  label: string | null;
  width: number | null;
  height: number | null;
  v: string;
  /** The cosine of its embedding with the query's. */
  similarity?: number | null;
  /** The probability of its suggested label. */
  score?: number;
  /** What a model names it, and how probable that is. */
  predicted?: string | null;
  predicted_score?: number | null;
  /** What a person said that it does not show. */
  rejected?: string | null;
  sequence?: string | null;
  /** Values of the columns asked for. */
  values?: Record<string, Value | null>;
  /** Where sequences are folded: the stack that it stands for, of which it is the first. */
  stack?: StackAnswer;
}

/** Images of a sequence as one entry of a list: how many, and the first of them. */
export interface StackAnswer {
  count: number;
  photos: Photo[];
}

export interface PhotoDetails {
  id: string;
  uri: string;
  name: string;
  row: Record<string, unknown> & { label?: string | null };
  image: boolean;
  /** If it is a frame. */
  video: VideoOfFrame | null;
}

/** Where a box is: fractions of the upright image, from its upper left corner. */
export interface Rectangle {
  x: number;
  y: number;
  width: number;
  height: number;
}

/** A row that is a box on an image. */
export interface BoxOnImage extends Photo {
  place: Rectangle;
  /** What a detector said it is, and how sure it was. */
  category: string | null;
  confidence: number | null;
  /** What a person said of the box itself: right or wrong. */
  box: string | null;
}

/** A box that a person draws; `corrects` is the one that the row is. */
export interface DrawnBox extends Rectangle {
  corrects: boolean;
  label: string | null;
  act: string;
  by: string | null;
}

export interface BoxesOfImage {
  /** The row of the whole image. */
  whole: string | null;
  boxes: BoxOnImage[];
}

export interface VideoOfFrame {
  name: string;
  media_type: string;
  seconds: number;
}

export interface Bin {
  from: number | string;
  to: number | string;
  count: number;
}

export interface ColumnValues {
  type: Kind;
  values: { value: Value; count: number }[];
  /** The values asked for by name. */
  also: { value: Value; count: number }[];
  nulls: number;
  distinct: number;
  min?: number | string | null;
  max?: number | string | null;
  histogram?: Bin[] | null;
}

/** Values of a column that have the words of a text; none are listed if there are more than 100. */
export interface ColumnByWords {
  column: string;
  distinct: number;
  count: number;
  match: "value" | "words" | "beginnings" | "parts";
  values: string[];
  text: string;
}

export interface FoundByWords {
  values: { column: string; value: string; count: number; match: string }[];
  more: number;
  columns: ColumnByWords[];
  /** Two columns, each with a part of the text. */
  together: ColumnByWords[];
  together_count: number;
}

export interface MapState {
  state: "absent" | "computing" | "ready";
  progress: number;
  stage: string;
  points: number;
  missing: number;
  /** How many were laid out, if the others were placed by these. */
  laid_out: number | null;
  can_compute: boolean;
  why: string | null;
}

/** A cluster of the map, and the point at its peak; the name is empty where no value is telling. */
export interface MapCluster {
  point: number;
  name: string;
  count: number;
}

/** A column's values, one a point of the map. */
export type MapColumn =
  | { type: "category"; categories: string[]; codes: Uint8Array } // 255 for none
  | { type: "number"; shares: Float32Array; min: number | null; max: number | null }; // from min (0) to max (1), or NaN

export interface SearchBody {
  ids?: string[];
  texts?: string[];
  unlike?: string[];
  embedding?: number[];
  where?: string;
  k: number;
  /** Whose values are wanted with the images. */
  columns?: string[];
}

/** What a text may become: of a model that understands words by the names of its classes. */
export interface KnownWords {
  words: { text: string; classes: number }[];
  problem: string | null;
}

export interface Suggestions {
  classes: { name: string; count: number }[];
  photos: Photo[];
  note: string;
}

/** Where images were taken. */
export interface Place {
  latitude: number;
  longitude: number;
  count: number;
  /** The stations there, the most frequent first, and how many there are beside these. */
  names: string[];
  further: number;
  /** Whether its images are those whose station has one of the names. */
  exact: boolean;
  /** The least and the greatest latitude of its images, and the same of the longitude. */
  box: [south: number, north: number, west: number, east: number];
}

export interface Places {
  /** The column of stations. */
  station: string | null;
  rounded: number;
  total: number;
  /** How many images have no place. */
  nowhere: number;
  places: Place[];
}

export interface SavedFilter {
  name: string;
  where: string;
  shown: Filter[];
}

export interface Interval {
  estimate: number;
  low: number | null;
  high: number | null;
  n: number;
  interval: string;
}

export interface Review {
  photos: Photo[];
  total: number;
  classes: { name: string; count: number }[];
  agreement: Interval | null;
  note: string;
}

export interface Confusion {
  true: string;
  predicted: string;
  count: number;
  ids: string[];
}

export interface Nameable {
  precision: number;
  /** The lowest probability that a name then has; null if none will do. */
  probability: number | null;
  share: Interval;
  images: number;
}

export interface Lesson {
  accuracy: Interval;
  /** The accuracy as a sentence. */
  note: string;
  /** How the images were divided. */
  how: string;
  confusions: Confusion[];
  doubtful: (Photo & { suggested: string; score: number })[];
  nameable: Nameable[];
  rest: number;
  unknown: number;
}

export interface Taught {
  wanted: number;
  /** What to label next; empty if there is nothing. */
  wants: string;
  classes: { name: string; count: number; missing: number }[];
  state: "waiting" | "computing" | "ready";
  progress: number;
  stage: string;
  problem: string;
  lesson: Lesson | null;
}

export interface TeachJob {
  state: "none" | "running" | "done" | "failed" | "cancelled";
  column: string | null;
  progress: number;
  stage: string;
  note: string;
  file: string | null;
  bytes: number | null;
}

export interface TeachJobs {
  save: TeachJob;
  name: TeachJob;
}

export interface DuplicateGroup {
  /** Names the group to the server. */
  number: number;
  kind: "same content" | "similar";
  count: number;
  largest: string | null;
  first: string | null;
  last: string | null;
  stations: string[];
  /** The first of them. */
  photos: Photo[];
}

export interface Duplicates {
  state: "computing" | "ready";
  progress: number;
  stage: string;
  groups: DuplicateGroup[];
  total: number;
  by_graph: boolean;
  images: number;
  /** The column of an image's station. */
  station: string | null;
}

export interface Failure {
  name: string;
  reason: string;
  failed_at: string | null;
}

export interface Predictions {
  method: string;
  column: string | null;
  predictions: { name: string; score: number }[];
  note: string;
}

export interface TextCount {
  value: string | null;
  count: number;
}

/** An act of labelling, as the history lists it. */
export interface PastAct {
  act: string;
  at: string;
  by: string | null;
  column: string;
  values: TextCount[];
  former: TextCount[];
  count: number;
  ids: string[];
  undone: boolean;
}

/** A shift of times, as the history lists it. */
export interface PastShift {
  act: string;
  at: string;
  by: string | null;
  where: string | null;
  seconds: number;
  rows: number;
  undone: boolean;
}

/** An act of labelling or undoing, as the stream of events reports it. */
export interface ReportedAct {
  act: string;
  at: string;
  by: string | null;
  column: string;
  count: number;
  undone: boolean;
}

/** A label for images; null removes it. */
export interface Label {
  ids: string[];
  column: string;
  value: string | null;
}

/** A label on its way to the server, with an id by which the server knows it when it is sent again. */
export interface Change extends Label {
  change: string;
  act: string;
  by: string | null;
}

export interface LabelBody {
  act: string;
  by?: string;
  changes: (Label & { change: string })[];
}

/** A filter of one column; filter.js says what it means. */
export interface Filter {
  column: string;
  type?: "number" | "time";
  /** Of times: values are hours 0 to 23, or months 1 to 12. */
  part?: DatePart;
  values?: Value[];
  none?: boolean;
  contains?: string;
  from?: number | string;
  to?: number | string;
  /** Of a range of numbers: they are written as digits in a column of text. */
  digits?: boolean;
}

/** What the page shows; address.js keeps it in the address. */
export interface State {
  view: string;
  filters: Filter[];
  texts: string[];
  like: string[];
  unlike: string[];
  queryImage: string;
  subset: string;
  order: string;
  photo: string;
  colour: string;
  teachColumn: string;
  teachClass: string;
  teachOrder: string;
  reviewSource: string;
  reviewName: string;
  reviewOrder: string;
  stacks: string;
  /** "yes": the gallery shows the images of a sequence as one. */
  folded: string;
  threshold: number;
}

/** What parts of the page tell each other; signals.js passes it on. */
export interface Signals {
  /** Labels are written. */
  labels: Label;
  /** Something is undone; of which images, where that is known. */
  undone: { ids?: string[] };
  /** Images were labelled by somebody else. */
  theirs: { ids: string[]; by: string; column: string; undone: boolean };
  /** A row was added here. */
  rows: undefined;
  /** Other columns have values. */
  columns: undefined;
  /** The server described the collection again. */
  collection: undefined;
  /** The server answers again after it did not. */
  back: undefined;
  /** The selection has changed. */
  selection: undefined;
  /** A view shows other images. */
  shown: undefined;
  /** Images have other predictions. */
  predicted: undefined;
}

/** Where an open image stands among those that the arrows go through. */
export interface Context {
  source: Source;
  index: number;
  /** The column that a decision goes into there. */
  column?: string;
}

/** Where a grid takes its images from; sources.js has two of them. */
export interface Source {
  /** How many places there are. */
  readonly total: number;
  /** How many images they have: more where sequences are folded. */
  readonly images: number;
  onchange: () => void;
  /** Called when images that were asked for later could not be had. */
  onerror: (error: unknown) => unknown;
  /** An image, or undefined while it is not there. */
  at(index: number): Photo | undefined;
  /** Have these there soon. */
  need(first: number, last: number): void;
  /** The ids from one place to another, all without arguments. */
  ids(first?: number, last?: number): Promise<string[]>;
  /** The place of an image; -1 if it has none. */
  placeOf(id: string): Promise<number>;
  /** Those of some ids that it has. */
  among(ids: string[]): Promise<string[]>;
  patch(ids: string[], changes: Partial<Photo>): void;
  /** Ask what has changed of some. */
  renew(ids: string[]): Promise<void>;
  close(): void;
}

type Handler<E> = (event: E) => unknown;

/** Attributes and handlers of an element that dom.js makes. */
export interface Properties {
  class?: string;
  style?: Partial<CSSStyleDeclaration>;
  onclick?: Handler<MouseEvent>;
  onchange?: Handler<Event>;
  oninput?: Handler<Event>;
  onload?: Handler<Event>;
  onfocus?: Handler<FocusEvent>;
  onblur?: Handler<FocusEvent>;
  onkeydown?: Handler<KeyboardEvent>;
  onsubmit?: Handler<SubmitEvent>;
  [attribute: string]: unknown;
}

export type Child = Node | string | false | null | undefined | Child[];
