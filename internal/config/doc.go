// Package config is what an operator may set: one struct, its defaults, where
// values come from, and what is wrong with them in words that say what to do.
//
// It promises that later sources win (defaults, belfry.yaml, BELFRY_ variables,
// flags); that a key nobody knows is an error that names the nearest known one,
// wherever it was written; that every fault is named at once; that secrets are
// masked in everything that is printed; and that docs/configuration.md is the
// list of all keys, because it is made from the struct.
//
// It refuses to guess: a file that was asked for must exist, a value that
// cannot be read stops the start. It opens no connection and makes no folder,
// and the settings of channels are checked by their kinds, not here.
//
// Test against it by giving Load a file, an environment and flags; it reads
// nothing else.
package config
