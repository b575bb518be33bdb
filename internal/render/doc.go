// Package render turns an event, or the items of a digest, and what is known of
// it, into words: one template body makes the HTML mail, its text part and the
// inbox entry. A Set is a template in all its languages and channels. It also
// writes the bytes of a standard webhook, and records as CSV.
//
// It promises that a send never fails for a template's sake: mistakes are
// found by Compile, with line and column; at sending, values that are missing
// are blank and work is cut at fixed bounds of steps and bytes. It promises
// that data of an event is never markup: Markdown is read while values are
// still placeholders, so no value can open a link, a heading or a tag, and the
// result is sanitised all the same. The actor of an anonymous event appears in
// no form.
//
// It refuses I/O, the clock, partials and functions in templates, and unescaped
// values; it knows nothing of channels beyond the form of a message.
//
// Testing against it needs nothing: Compile and Item are plain values. Golden
// texts with template, event and result in one file are in testdata.
package render
