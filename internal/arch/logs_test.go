package arch_test

import (
	"go/ast"
	"go/token"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// logName is what names of log attributes look like, so that whatever reads logs
// can ask for them.
var logName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// Names of what the program logs are words without spaces, and messages stand
// before them.
func TestLogAttributesAreNames(t *testing.T) {
	names := 0
	for _, files := range packages(t) {
		for _, f := range files {
			ast.Inspect(f.syntax, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				for _, arg := range attributeNames(call) {
					name, err := strconv.Unquote(arg.Value)
					if names++; err != nil || !logName.MatchString(name) {
						t.Errorf("%s: %s is no name of a log attribute: write it in small letters, with _ for a space", fset.Position(arg.Pos()), arg.Value)
					}
				}
				return true
			})
		}
	}
	if names < 100 {
		t.Errorf("only %d names were seen", names)
	}
}

// attributeNames are the names that a call gives to what it logs, as far as they
// are written there.
func attributeNames(call *ast.CallExpr) (names []*ast.BasicLit) {
	fun, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return nil
	}
	text := func(e ast.Expr) *ast.BasicLit {
		if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			return lit
		}
		return nil
	}
	if pkg, ok := fun.X.(*ast.Ident); ok && pkg.Name == "slog" {
		switch fun.Sel.Name {
		case "Any", "Bool", "Duration", "Float64", "Group", "Int", "Int64", "String", "Time", "Uint64":
			if len(call.Args) > 1 {
				if name := text(call.Args[0]); name != nil {
					names = append(names, name)
				}
			}
			return names
		}
	}
	args := call.Args
	switch fun.Sel.Name {
	case "Debug", "Info", "Warn", "Error":
		if len(args) == 0 || text(args[0]) == nil { // of a test, or of something else
			return nil
		}
		args = args[1:]
	case "DebugContext", "InfoContext", "WarnContext", "ErrorContext":
		if len(args) < 2 {
			return nil
		}
		args = args[2:]
	case "Log":
		if len(args) < 3 {
			return nil
		}
		args = args[3:]
	case "With":
	default:
		return nil
	}
	if fun.Sel.Name == "With" || fun.Sel.Name == "Error" { // others have such methods
		x, ok := fun.X.(*ast.SelectorExpr)
		name := ""
		if ok {
			name = x.Sel.Name
		} else if id, ok := fun.X.(*ast.Ident); ok {
			name = id.Name
		}
		if !strings.EqualFold(name, "log") && !strings.EqualFold(name, "logger") && name != "slog" {
			return nil
		}
	}
	for i := 0; i < len(args); i++ {
		if name := text(args[i]); name != nil {
			names = append(names, name)
			i++ // its value
		} else if _, ok := args[i].(*ast.CallExpr); !ok { // an attribute made elsewhere
			i++
		}
	}
	return names
}
