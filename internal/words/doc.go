// Package words holds what Belfry itself says to people, in English, Spanish,
// French and German, and how dates and numbers are written in their languages.
//
// It promises that every text exists in all four languages with the same
// placeholders (a test), that a reader whose language is none of them gets the
// next she or her tenant prefers and at last English, and that a text that is
// not there shows as its id and never as an error. Dates and numbers are known
// for more languages than texts are, since tenants write templates in any.
//
// It refuses I/O and the clock, HTML (texts are plain; whoever shows them
// escapes them), and texts of tenants, which are templates (package render).
//
// A text is an entry of the four JSON files under one id; those with a count
// have plural forms. Testing against it needs nothing.
package words
