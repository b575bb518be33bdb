package arch_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/mod/modfile"
)

const (
	root   = "../.."
	module = "github.com/belfryhq/belfry"
)

// source is a parsed file.
type source struct {
	name    string // below the root
	test    bool
	syntax  *ast.File
	imports []string
}

// tree reads every Go file of the repository once, by folder.
var tree = sync.OnceValues(func() (map[string][]source, error) {
	packages := map[string][]source{}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := d.Name()
		if d.IsDir() {
			if name != root && (base == "testdata" || base[0] == '.' || base[0] == '_') {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(base, ".go") {
			return nil
		}
		file, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		s := source{name: filepath.ToSlash(rel), test: strings.HasSuffix(base, "_test.go"), syntax: file}
		for _, imp := range file.Imports {
			p, err := strconv.Unquote(imp.Path.Value)
			if err != nil {
				return err
			}
			s.imports = append(s.imports, p)
		}
		dir := path.Dir(s.name)
		packages[dir] = append(packages[dir], s)
		return nil
	})
	return packages, err
})

var fset = token.NewFileSet()

func packages(t *testing.T) map[string][]source {
	t.Helper()
	p, err := tree()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func rowOf(p string) *room {
	for i := range rooms {
		if rooms[i].path == p {
			return &rooms[i]
		}
	}
	return nil
}

func TestEveryPackageHasOneRow(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range rooms {
		if seen[r.path] {
			t.Errorf("%s has two rows", r.path)
		}
		seen[r.path] = true
		if len(packages(t)[r.path]) == 0 {
			t.Errorf("row without a package: %s; remove the row", r.path)
		}
	}
	for p := range packages(t) {
		if !seen[p] {
			t.Errorf("package without a row: %s; say in rooms_test.go where it belongs", p)
		}
	}
}

// impure are the standard packages a pure room may not import; a prefix ends
// in a slash.
var impure = map[string]string{
	"os": "the file system and the environment", "os/": "the file system and the environment", "io/fs": "the file system",
	"net": "the network", "net/http": "the network", "net/http/": "the network", "net/smtp": "the network",
	"database/": "a database", "log": "a log", "log/": "a log", "syscall": "the system", "runtime": "the runtime", "runtime/": "the runtime",
	"math/rand": "chance", "math/rand/": "chance", "crypto/rand": "chance", "plugin": "code from outside", "unsafe": "memory",
}

func TestImports(t *testing.T) {
	mods := modules(t)
	for _, r := range rooms {
		may := map[string]bool{}
		for name := range strings.FieldsSeq(r.may) {
			may[name] = true
		}
		used := map[string]bool{}
		for _, f := range packages(t)[r.path] {
			for _, imp := range f.imports {
				ours, isOurs := strings.CutPrefix(imp, module+"/")
				mod := moduleOf(imp, mods)
				switch {
				case isOurs:
					name := strings.TrimPrefix(ours, "internal/")
					if f.test {
						continue // tests put rooms together; siblings are checked below
					}
					used[name] = true
					target := rowOf(ours)
					switch {
					case !may[name] && !may["*"]:
						t.Errorf("%s: %s may not import %s", f.name, r.path, ours)
					case target != nil && target.testing && !r.testing:
						t.Errorf("%s imports %s, which exists for tests", f.name, ours)
					}
				case mod != "":
					if !f.test {
						used[mod] = true
						if r.modules[mod] == "" {
							t.Errorf("%s: %s may not import %s; if it must, give the reason in its row", f.name, r.path, imp)
						}
					}
				case f.test:
				case r.pure:
					for bad, what := range impure {
						if imp == bad || strings.HasSuffix(bad, "/") && strings.HasPrefix(imp, bad) {
							t.Errorf("%s: %s is pure and may not import %s (%s)", f.name, r.path, imp, what)
						}
					}
				}
			}
		}
		for name := range may {
			if name != "*" && !used[name] {
				t.Errorf("stale rule: %s may import %s and does not", r.path, name)
			}
		}
		for name := range r.modules {
			if !used[name] {
				t.Errorf("stale rule: %s may import %s and does not", r.path, name)
			}
		}
	}
}

// Adapters of one contract do not know each other, not even in tests.
func TestSiblingsAreStrangers(t *testing.T) {
	shared := map[string]string{ // what siblings share, with the reason
		"internal/channel/channeltest":     "the conformance suite",
		"internal/connector/connectortest": "the conformance suite",
		"internal/connector/sqlread":       "what all SQL sources do alike",
	}
	for _, r := range rooms {
		for _, family := range []string{"internal/channel/", "internal/connector/", "internal/web/"} {
			if !strings.HasPrefix(r.path, family) {
				continue
			}
			for _, f := range packages(t)[r.path] {
				for _, imp := range f.imports {
					p := strings.TrimPrefix(imp, module+"/")
					if strings.HasPrefix(p, family) && p != r.path && shared[p] == "" {
						t.Errorf("%s imports its sibling %s", f.name, p)
					}
				}
			}
		}
	}
}

// Reading the clock is for rooms whose row says why; waiting is for nobody's
// tests.
func TestClock(t *testing.T) {
	for _, r := range rooms {
		read := false
		for _, f := range packages(t)[r.path] {
			for sel := range uses(f, "time") {
				switch sel.name {
				case "Now", "Since", "Until":
					if f.test {
						continue
					}
					read = true
					if r.clock == "" && !r.testing {
						t.Errorf("%s: %s reads the clock; take the time as an argument", fset.Position(sel.at), r.path)
					}
				case "After", "AfterFunc", "NewTimer", "NewTicker", "Tick", "Sleep":
					if r.pure && !f.test {
						t.Errorf("%s: %s is pure and may not wait", fset.Position(sel.at), r.path)
					}
					if sel.name == "Sleep" && f.test {
						t.Errorf("%s: tests wait on signals, not time.Sleep", fset.Position(sel.at))
					}
				}
			}
		}
		if r.clock != "" && !read {
			t.Errorf("stale rule: %s may read the clock and does not", r.path)
		}
	}
}

func TestHabits(t *testing.T) {
	for p, files := range packages(t) {
		for _, f := range files {
			for _, d := range f.syntax.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
					t.Errorf("%s: no init functions: wire it in internal/app", fset.Position(fn.Pos()))
				}
			}
			if !f.test && !rowTesting(p) {
				continue
			}
			for sel := range uses(f, "testing/synctest") {
				if sel.name == "Test" && p != "internal/testtime" {
					t.Errorf("%s: tests in virtual time go by testtime.Test, which says why", fset.Position(sel.at))
				}
			}
			ast.Inspect(f.syntax, func(n ast.Node) bool {
				if sel, ok := n.(*ast.SelectorExpr); ok && (sel.Sel.Name == "Skip" || sel.Sel.Name == "Skipf" || sel.Sel.Name == "SkipNow") {
					if id, ok := sel.X.(*ast.Ident); ok && (id.Name == "t" || id.Name == "b" || id.Name == "tb") {
						t.Errorf("%s: no skipped tests: fail and say what is missing", fset.Position(n.Pos()))
					}
				}
				return true
			})
		}
	}
}

func rowTesting(p string) bool { r := rowOf(p); return r != nil && r.testing }

var refused = strings.Fields("util utils common helper helpers misc base shared types models core manager service lib")

func TestNamesAndDocs(t *testing.T) {
	for p, files := range packages(t) {
		name := path.Base(p)
		if slices.Contains(refused, name) || !regexp.MustCompile(`^[a-z][a-z0-9]*$`).MatchString(name) {
			t.Errorf("%s: a package is named by one lower-case word that says what it is for", p)
		}
		lines := 0
		for _, f := range files {
			if f.syntax.Doc != nil && !f.test {
				lines = max(lines, len(strings.Split(strings.TrimSpace(f.syntax.Doc.Text()), "\n")))
			}
		}
		if lines < 3 {
			t.Errorf("%s: the package comment has %d lines; say what it is, promises, refuses, and how to test against it", p, lines)
		}
	}
}

func TestAdaptersRunTheirSuite(t *testing.T) {
	for _, r := range rooms {
		if r.suite == "" {
			continue
		}
		called := slices.ContainsFunc(packages(t)[r.path], func(f source) bool {
			return f.test && slices.Contains(f.imports, module+"/"+r.suite)
		})
		if !called {
			t.Errorf("%s: no test of it calls %s", r.path, r.suite)
		}
	}
}

var inDoc = regexp.MustCompile("`((?:cmd|examples|internal|docs|scripts|\\.ci)/[^` ]*|[A-Z][A-Za-z]*(?:\\.md)?file|[A-Z]+\\.md)`")

// docs/ARCHITECTURE.md names every package once, in the order of the table,
// and every path in it exists.
func TestArchitectureDocument(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs/ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	var named, want []string
	for _, m := range inDoc.FindAllStringSubmatch(string(text), -1) {
		p := strings.TrimSuffix(m[1], "/")
		if _, err := os.Stat(filepath.Join(root, p)); err != nil {
			t.Errorf("ARCHITECTURE.md names %s, which does not exist", p)
		}
		if len(packages(t)[p]) > 0 {
			named = append(named, p)
		}
	}
	for _, r := range rooms {
		want = append(want, r.path)
	}
	if !slices.Equal(named, want) {
		t.Errorf("ARCHITECTURE.md must name every package once, in the table's order:\n got %s\nwant %s",
			strings.Join(named, " "), strings.Join(want, " "))
	}
}

type use struct {
	name string
	at   token.Pos
}

// uses lists what a file takes from a standard package.
func uses(f source, pkg string) map[use]bool {
	out := map[use]bool{}
	local := ""
	for _, imp := range f.syntax.Imports {
		if imp.Path.Value == strconv.Quote(pkg) {
			local = path.Base(pkg)
			if imp.Name != nil {
				local = imp.Name.Name
			}
		}
	}
	if local == "" {
		return out
	}
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if id, ok := sel.X.(*ast.Ident); ok && id.Name == local {
				out[use{sel.Sel.Name, sel.Pos()}] = true
			}
		}
		return true
	})
	return out
}

// modules are the third-party modules of go.mod, longest path first.
func modules(t *testing.T) []string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := modfile.Parse("go.mod", data, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Replace) > 0 {
		t.Error("go.mod has a replace directive: go install of a version would fail for users")
	}
	mods := map[string]bool{}
	for _, r := range f.Require {
		mods[r.Mod.Path] = true
	}
	return slices.SortedFunc(maps.Keys(mods), func(a, b string) int { return len(b) - len(a) })
}

func moduleOf(imp string, mods []string) string {
	for _, m := range mods {
		if imp == m || strings.HasPrefix(imp, m+"/") {
			return m
		}
	}
	if strings.Contains(strings.SplitN(imp, "/", 2)[0], ".") {
		return fmt.Sprintf("(not in go.mod) %s", imp)
	}
	return ""
}

var docLink = regexp.MustCompile(`\]\(([^)#:{\s]+)(?:#[^)]*)?\)`)

// Links between pages of the repository lead somewhere.
func TestDocumentationLinks(t *testing.T) {
	pages, err := filepath.Glob(filepath.Join(root, "docs/*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, filepath.Join(root, "README.md"), filepath.Join(root, "CHANGELOG.md")) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, m := range docLink.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s links to %s, which does not exist", strings.TrimPrefix(page, root+"/"), m[1])
			}
		}
	}
}
