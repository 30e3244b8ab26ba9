import { defineConfig } from 'vitest/config'

// Fixed names: Django's manifest storage adds the hashes, so the template can name the files.
export default defineConfig({
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  build: {
    target: 'es2022',
    outDir: 'dist/workbench',
    emptyOutDir: true,
    cssCodeSplit: false,
    modulePreload: false,
    rollupOptions: {
      input: 'src/main.tsx',
      output: { entryFileNames: 'main.js', assetFileNames: 'main.[ext]', codeSplitting: false },
    },
  },
  test: { include: ['tests/**/*.test.ts'], environment: 'node' },
})
