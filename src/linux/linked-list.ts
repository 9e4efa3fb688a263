/**
 * Doubly linked lists whose members leave in constant time from wherever they stand. Whoever may be listed keeps a
 * `Place` for each list; appending and removing allocate nothing.
 */
export class Place<Owner> {
  previous: Place<Owner> | undefined;
  next: Place<Owner> | undefined;
  list: LinkedList<Owner> | undefined;

  constructor(readonly owner: Owner) {}

  /** Leaves the list, if it is in one. */
  leave(): void {
    this.list?.remove(this);
  }
}

export class LinkedList<Owner> {
  first: Place<Owner> | undefined;
  #last: Place<Owner> | undefined;

  /** Appends a place that is in no list. */
  append(place: Place<Owner>): void {
    place.list = this;
    place.previous = this.#last;
    if (this.#last === undefined) this.first = place;
    else this.#last.next = place;
    this.#last = place;
  }

  /** Removes a place that is in this list. */
  remove(place: Place<Owner>): void {
    if (place.previous === undefined) this.first = place.next;
    else place.previous.next = place.next;
    if (place.next === undefined) this.#last = place.previous;
    else place.next.previous = place.previous;
    place.previous = undefined;
    place.next = undefined;
    place.list = undefined;
  }
}
