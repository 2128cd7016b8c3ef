/** Linux's NAME_MAX, and EROFS_NAME_LEN. */
const MAX_NAME_BYTES = 255;

/**
 * The components of a path in an archive; leading slashes, empty components and `.` do not count, so `/a`, `./a/` and `a` are
 * the same. A string says why the path cannot be used.
 */
export function splitPath(path: string): string[] | string {
  const components: string[] = [];
  for (const component of path.split('/')) {
    if (component === '' || component === '.') continue;
    if (component === '..') return 'path has a ".." in it';
    if (component.length > MAX_NAME_BYTES) return `path has a component of ${component.length} bytes, more than ${MAX_NAME_BYTES}`;
    components.push(component);
  }
  return components;
}

/** Components of a symlink's target, `..` included; undefined: one is longer than any name. */
export function splitTarget(target: string): string[] | undefined {
  const components = target.split('/').filter((component) => component !== '' && component !== '.');
  return components.some((component) => component.length > MAX_NAME_BYTES) ? undefined : components;
}
