// Package arch holds no code, only tests of the shape of the repository: who
// may import whom, who may read the clock, what a package must say of itself,
// and that docs/ARCHITECTURE.md tells the truth.
//
// It promises that the table in rooms_test.go is complete: a package without
// a row fails, and so does a row without a package or a permission nobody
// uses. A new package begins with its row: say where it belongs.
//
// It refuses opinions that no machine can check; those are for reviewers.
package arch
