// Package manage makes people's and keys' edits: of the tree, of people, groups
// and grants, of preferences, subscriptions, members, presets, endpoints, event
// types, templates, channels and sources, one by one, as tables or as a manifest; joining and leaving, by hand, by mail and by
// taking part; acknowledging, following problems, messages by hand; what becomes
// of deliveries; and all that is held about a person, given out or erased. It is
// the one truth for the API, the pages and the command line: each of them calls
// the same methods.
//
// It promises: an edit is checked whole before anything of it is stored, and
// every fault is named with its place (a JSON pointer into what was given) and
// with what to do; what refers to something refers to something that is there;
// trees have no cycles and groups hold themselves at no depth; every edit is
// one Changes, with its line in the audit; secrets are sealed before they leave
// memory and shown once.
//
// It refuses to decide who may call it (the caller has asked package auth; By
// is believed), to match, resolve or route, to know protocols (settings of
// channels and sources are checked by Kinds), and to read the clock (Options.Now).
// What takes long it only orders: steps of jobs, events about joining and
// notices are its values, carried out by those whom Options names.
//
// Its store must put an applied edit in force before Apply returns: then an
// edit that was answered holds for every event accepted later.
//
// Testing against it: New with a real store.DB on SQLite and a secret.Box;
// this package's tests show how.
package manage
