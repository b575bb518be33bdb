package main

import (
	"runtime"
	"runtime/debug"
)

type versionCmd struct {
	form
}

// Run says which program this is.
func (v *versionCmd) Run(w world) error {
	build := map[string]string{"version": version(), "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				build["revision"] = s.Value
			case "vcs.time":
				build["committed"] = s.Value
			case "vcs.modified":
				if s.Value == "true" {
					build["modified"] = "true"
				}
			}
		}
	}
	if v.JSON {
		return v.out(w).Value(build)
	}
	line := "belfry " + build["version"]
	if rev := build["revision"]; rev != "" {
		line += " (" + rev[:min(12, len(rev))] + ")"
	}
	return v.out(w).Line("%s, %s, %s", line, build["go"], build["platform"])
}

// version is the module's version as built: a tag, or devel.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}
