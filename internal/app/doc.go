// Package app wires the rooms into a program: New opens the store, loads what
// must be in memory, binds the listener and connects everything; Run serves,
// plans, dispatches, seals digests, looks at conditions and timers, asks the
// platform, does jobs, sends what is said about joining, keeps house and follows
// sources until its context ends, and then drains. The one list of channel kinds and the one of connectors are here.
//
// It promises: the address is bound before New returns, so port 0 works and URL
// is true; an edit is in force (indexes, caches, channels, sources) before it
// is answered; stopping finishes sends in flight within the configured time
// and loses nothing.
//
// It refuses to hold rules: whatever decides belongs to the room it wires.
//
// Tests start it with a temporary data folder and port 0, as the program does.
package app
